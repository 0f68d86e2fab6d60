"""A certificate for machines and people: JUnit, SVG badge, HTML, a line."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any, Final
from xml.etree import ElementTree as ET

__all__ = ["as_badge", "as_html", "as_junit", "as_text"]

_COLOURS: Final = {"L4": "#2ea44f", "L3": "#2ea44f", "L2": "#97ca00", "L1": "#dfb317"}
_COLUMNS: Final = ("level", "check", "capability", "face", "point", "variant", "status")
_TINTS: Final = {"passed": "#d4f4dd", "skipped": "#eee", "not_run": "#eee", "expected_failure": "#fff3cd"}


def as_junit(data: Mapping[str, Any]) -> str:
    """Return JUnit XML: a failed cell is a failure, a fault an error, what did not run is skipped."""
    counts = {"tests": len(data["cells"]), "failures": data["failed"], "errors": data["faults"] + len(data["problems"])}
    about = {"name": f"surefoot certify {data['name']}", "time": str(data["seconds"])}
    suite = ET.Element("testsuite", about | {name: str(count) for name, count in counts.items()})
    for cell in data["cells"]:
        case = ET.SubElement(
            suite, "testcase", classname=f"{data['name']}.{cell['level']}", name=cell["cell"], time=str(cell.get("seconds", 0))
        )
        kind = {"failed": "failure", "unexpected_pass": "failure", "fault": "error", "passed": ""}.get(cell["status"], "skipped")
        if kind:
            ET.SubElement(case, kind, message=_printable(cell["reason"].partition("\n")[0])).text = _printable(cell["reason"])
    for problem in data["problems"]:
        ET.SubElement(ET.SubElement(suite, "testcase", classname=data["name"], name="run"), "error", message=_printable(problem))
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def _printable(text: str) -> str:
    """Return text without what XML cannot hold."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\ufffd" for char in text)


def as_badge(data: Mapping[str, Any]) -> str:
    """Return an SVG badge with the level."""
    level = data["level"] if data["ok"] else "failed"
    left, right = f"surefoot {data['name']}", level
    wide, more = 8 + 7 * len(left), 12 + 7 * len(right)
    colour = _COLOURS.get(level, "#e05d44")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide + more}" height="20" role="img" aria-label="{html.escape(left)}: {right}">'
        f'<rect width="{wide}" height="20" fill="#555"/><rect x="{wide}" width="{more}" height="20" fill="{colour}"/>'
        f'<g fill="#fff" font-family="Verdana,sans-serif" font-size="11"><text x="5" y="14">{html.escape(left)}</text>'
        f'<text x="{wide + 6}" y="14">{right}</text></g></svg>\n'
    )


def as_html(data: Mapping[str, Any]) -> str:
    """Return one page: the level, what was not tested, and every cell with its effect counts."""
    rows = "".join(
        f'<tr style="background:{_TINTS.get(cell["status"], "#f8d7da")}">'
        + "".join(f"<td>{html.escape(str(cell[key]))}</td>" for key in _COLUMNS)
        + f"<td>{html.escape(json.dumps(cell.get('effects', {})))}</td><td>{html.escape(cell['reason'][:300])}</td></tr>"
        for cell in data["cells"]
    )
    head = "".join(f"<th>{name}</th>" for name in (*_COLUMNS, "effects", "reason"))
    facts = {key: data[key] for key in ("level", "passed", "failed", "faults", "skipped", "not_run", "seed", "seconds", "commit")}
    told = "".join(
        f"<dt>{key}</dt><dd>{html.escape(str(value))}</dd>" for key, value in (facts | data["versions"] | data["digests"]).items()
    )
    missing = "".join(f"<li>{html.escape(gap['check'])}: {html.escape(gap['reason'])}</li>" for gap in data["not_tested"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>surefoot certify {html.escape(data["name"])}</title>'
        "<style>body{font:14px sans-serif;margin:2em}td,th{padding:2px 8px;text-align:left}dt{float:left;width:9em}</style>"
        f"<h1>{html.escape(data['name'])}: {data['level']}</h1><dl>{told}</dl><h2>Not tested</h2><ul>{missing or '<li>nothing</li>'}</ul>"
        f"<h2>Cells</h2><table><tr>{head}</tr>{rows}</table></html>\n"
    )


def as_text(data: Mapping[str, Any]) -> str:
    """Return the result for people: one line, and one for each thing that is wrong."""
    counts = ", ".join(f"{data[key]} {key.replace('_', ' ')}" for key in ("passed", "failed", "faults", "skipped", "not_run"))
    lines = [f"{data['name']}: {data['level']}  ({counts}; {data['seconds']} s, seed {data['seed']})"]
    lines += [f"  void: {problem}" for problem in data["problems"]]
    wrong = [cell for cell in data["cells"] if cell["status"] in {"failed", "fault", "unexpected_pass"}]
    lines += [f"  {cell['status']}: {cell['cell']}: {cell['reason'].partition(chr(10))[0]}" for cell in wrong]
    return "\n".join(lines)
