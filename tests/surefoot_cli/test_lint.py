"""The boundary lint finds effects that go round the guard, and leaves alone those that do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from surefoot_cli.lint import lint
from surefoot_cli.main import cli

IMPORTS = """
import os, shutil, subprocess, smtplib, requests, httpx, urllib.request
import subprocess as sp
from requests import post as send
from subprocess import run
from pathlib import Path
import surefoot
from agents import Agent, Runner, function_tool
from langchain_core.tools import tool, StructuredTool, BaseTool
session = requests.Session()
"""

EFFECTS = {
    "requests.post(url)": "requests.post",
    "send(url)": "requests.post",
    "httpx.delete(url)": "httpx.delete",
    "session.put(url)": "session.put",
    "subprocess.run(['rm'])": "subprocess.run",
    "sp.Popen(['rm'])": "subprocess.Popen",
    "run(['rm'])": "subprocess.run",
    "os.system('rm')": "os.system",
    "os.remove('x')": "os.remove",
    "shutil.rmtree('x')": "shutil.rmtree",
    "smtplib.SMTP('host').send_message(m)": "smtplib.SMTP",
    "urllib.request.urlopen(url, data)": "urllib.request.urlopen",
    "open('x', 'w').write('')": "open(…, 'w')",
    "open('x', mode='a')": "open(…, 'a')",
    "Path('x').write_text('')": "Path('x').write_text",
}
HARMLESS = [
    "requests.get(url)",
    "open('x')",
    "open('x', 'rb')",
    "urllib.request.urlopen(url)",
    "session.get(url)",
    "print(subprocess.PIPE)",
]
PLACES = {
    "a node": "def node(state, url='', data=b'', m=None):\n    {effect}\n",
    "the top level": "url, data, m = '', b'', None\n{effect}\n",
    "a function that no tool calls": "@tool\ndef pay(): return helper()\ndef helper(): pass\ndef other(url, data, m):\n    {effect}\n",
}
GUARDED = {
    "a tool of surefoot": "@surefoot.tool(effect='unsafe')\ndef pay(url, data, m):\n    {effect}\n",
    "a tool of LangChain": "@tool\ndef pay(url, data, m):\n    {effect}\n",
    "a coroutine tool of OpenAI Agents": "@function_tool\nasync def pay(url, data, m):\n    {effect}\n",
    "a function that is made a tool": "def pay(url, data, m):\n    {effect}\nmade = StructuredTool.from_function(pay)\n",
    "a function given to a guard": "def pay(url, data, m):\n    {effect}\npay = guard.tool(pay)\n",
    "a class that is a tool": "class Pay(BaseTool):\n    def _run(self, url, data, m):\n        {effect}\n",
    "what a tool calls": "def deep(url, data, m):\n    {effect}\ndef helper(): deep(1, 2, 3)\n@tool\ndef pay(): helper()\n",
    "a line with a reason": "def node(url, data, m):\n    {effect}  # surefoot: ignore - a local cache\n",
}
BYPASSES = {
    "@tool\ndef pay(): pass\npay.func()\n": "pay.func() calls the body past its tool",
    "@surefoot.tool()\ndef pay(): pass\npay.__wrapped__()\n": "pay.__wrapped__() calls the body past its tool",
    "graph = make()\nguarded = surefoot.wrap(graph)\ngraph.invoke({})\n": "graph is used bare, and wrapped as guarded",
    "agent = Agent()\nguarded = surefoot.wrap(agent)\nRunner.run_sync(agent, 'x')\n": "agent is used bare, and wrapped as guarded",
}
FINE = [
    "@tool\ndef pay(): pass\npay.invoke({})\n",
    "graph = make()\ngraph = surefoot.wrap(graph)\ngraph.invoke({})\n",
    "agent = Agent()\nguarded = surefoot.wrap(agent)\nRunner.run_sync(guarded, 'x')\n",
]


def found(folder: Path, source: str) -> list[str]:
    """Return what is said of a module."""
    (folder / "agent.py").write_text(IMPORTS + source)
    files, findings = lint([folder])
    assert files == 1
    assert all(finding.line > IMPORTS.count("\n") for finding in findings)
    return [finding.text for finding in findings]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("effect", EFFECTS)
def test_an_effect_outside_of_tools_is_found(tmp_path: Path, place: str, effect: str) -> None:
    """What changes the world, and is in no tool's body and called by none, is found, by whatever name it is imported."""
    [said] = found(tmp_path, PLACES[place].format(effect=effect))
    assert said.startswith(EFFECTS[effect])
    assert "goes round the guard" in said


@pytest.mark.parametrize("place", GUARDED)
def test_an_effect_in_a_tool_is_left_alone(tmp_path: Path, place: str) -> None:
    """The body of a tool, what it calls, and what a reason is given for are fine."""
    assert [said for effect in EFFECTS for said in found(tmp_path, GUARDED[place].format(effect=effect))] == []


@pytest.mark.parametrize("effect", HARMLESS)
def test_what_only_reads_is_left_alone(tmp_path: Path, effect: str) -> None:
    """Reading changes nothing, wherever it is."""
    assert [said for place in PLACES.values() for said in found(tmp_path, place.format(effect=effect))] == []


@pytest.mark.parametrize("source", BYPASSES)
def test_what_goes_past_a_tool_or_a_wrapped_object_is_found(tmp_path: Path, source: str) -> None:
    """A body that is called by itself, and a bare object beside its wrapped form, are found."""
    [said] = found(tmp_path, source)
    assert said.startswith(BYPASSES[source])


@pytest.mark.parametrize("source", FINE)
def test_what_goes_through_the_guard_is_left_alone(tmp_path: Path, source: str) -> None:
    """Calling the tool, and using what is wrapped, are fine."""
    assert found(tmp_path, source) == []


def test_an_ignore_without_a_reason_is_none(tmp_path: Path) -> None:
    """A line is passed over for a reason only."""
    assert len(found(tmp_path, "def node():\n    os.system('x')  # surefoot: ignore\n")) == 1
    assert len(found(tmp_path, "def node():\n    os.system('x')  # surefoot: ignore - \n")) == 1


def test_the_command(tmp_path: Path) -> None:
    """``surefoot tools lint`` exits with 1 where it finds something, 0 where not, and 2 for what is no Python; it imports nothing."""
    (tmp_path / "bad.py").write_text("raise SystemExit('imported')\nimport os\ndef node(): os.system('x')\n")
    done = CliRunner().invoke(cli, ["tools", "lint", str(tmp_path)])
    assert (done.exit_code, "bad.py:3: os.system in node()" in done.output, "1 files, 1 findings" in done.output) == (1, True, True)
    told = json.loads(CliRunner().invoke(cli, ["tools", "lint", str(tmp_path / "bad.py"), "--json"]).output)
    assert (told["files"], told["findings"][0]["line"]) == (1, 3)
    (tmp_path / "bad.py").write_text("x = 1\n")
    assert CliRunner().invoke(cli, ["tools", "lint", str(tmp_path)]).exit_code == 0
    (tmp_path / "bad.py").write_text("def\n")
    assert CliRunner().invoke(cli, ["tools", "lint", str(tmp_path)]).exit_code == 2
    (tmp_path / "bad.py").unlink()
    assert CliRunner().invoke(cli, ["tools", "lint", str(tmp_path)]).exit_code == 2


@pytest.mark.parametrize("bytes_", [b"def (", b"\xff\xfe\x00x", b"x = 1\x00", b"x = " + b"(" * 5000 + b")" * 5000], ids=range(4))
def test_a_file_that_cannot_be_read_is_reported_and_the_others_are_looked_at(tmp_path: Path, bytes_: bytes) -> None:
    """One broken file is a finding of its own, and hides none of those beside it."""
    (tmp_path / "broken.py").write_bytes(bytes_)
    (tmp_path / "node.py").write_text("import os\n\n\ndef node(state):\n    os.remove('x')\n")
    done = CliRunner().invoke(cli, ["tools", "lint", str(tmp_path)])
    assert done.exit_code == 1
    assert "broken.py:1: it cannot be looked at (" in done.output
    assert "node.py:5: " in done.output
    assert done.output.endswith("1 files, 2 findings\n")
