"""``surefoot policy``, ``surefoot approvals`` and ``surefoot runs stop``: what they print and what they exit with."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import surefoot
import surefoot_policy
from surefoot import ApprovalPending, Guard
from surefoot.plugins import Plugins
from surefoot_cli.main import cli

POLICY = """
tools:
  - {tool: "pay*", when: args.amount > 1000, decision: approve, reason: big payments}
  - {tool: rm, decision: deny}
budgets: [{calls: 5}]
"""


@pytest.fixture
def surefoot_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command line in a folder with a policy."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "surefoot.yaml").write_text(POLICY)
    Plugins.default().cli(cli)
    return lambda *args: CliRunner().invoke(cli, ["--store", f"sqlite:///{tmp_path}/s.db", *args])


@pytest.fixture
def waiting(tmp_path: Path, surefoot_: Callable[..., Result]) -> str:
    """A run that waits for an approval; returns its id."""

    @surefoot.tool()
    def pay(amount: int) -> str:
        return f"paid {amount}"

    pay.__qualname__ = pay.__name__ = "pay"
    assert surefoot_ is not None
    guard = Guard(f"sqlite:///{tmp_path}/s.db", policy="surefoot.yaml")
    with surefoot.run("r"), pytest.raises(ApprovalPending) as told:
        surefoot.wrap(lambda: pay(5000), guard=guard)()
    return next(iter(told.value.cards))


def test_policy_check(surefoot_: Callable[..., Result], tmp_path: Path) -> None:
    """A good file is summed up; a bad one is one sentence with its place, and exit code 2; none at all is said so."""
    done = surefoot_("policy", "check")
    assert done.exit_code == 0
    assert "is fine: 2 tools, 1 budgets, 0 guardrails; whatever else is asked for: allow" in done.output
    assert json.loads(surefoot_("policy", "check", "--json").output)["tools"] == 2
    (tmp_path / "bad.yaml").write_text("tools:\n  - {tool: pay, efect: unsafe}\n")
    done = surefoot_("policy", "check", "--policy", "bad.yaml")
    assert done.exit_code == 2
    assert "bad.yaml:2: tools[0].efect: unknown key" in done.output
    (tmp_path / "surefoot.yaml").unlink()
    done = surefoot_("policy", "check")
    assert (done.exit_code, "there is no surefoot.yaml" in done.output) == (2, True)


def test_policy_explain(surefoot_: Callable[..., Result]) -> None:
    """It says what would become of a call and which entry says so."""
    done = surefoot_("policy", "explain", "pay_all", "--args", '{"amount": 2000}')
    assert done.output.startswith("approve: big payments (tools[0], policy@")
    told = json.loads(surefoot_("policy", "explain", "rm", "--json").output)
    assert (told["decision"], told["entry"]) == ("deny", "tools[1]")
    assert surefoot_("policy", "explain", "look").output.startswith("allow:")
    for wrong in ("[1]", "{"):
        assert surefoot_("policy", "explain", "rm", "--args", wrong).exit_code == 2


def test_policy_test(surefoot_: Callable[..., Result], tmp_path: Path) -> None:
    """Examples that are decided as expected pass; others are named, with exit code 4; no examples prove nothing."""
    examples = tmp_path / "examples.json"
    good = [{"tool": "pay", "args": {"amount": 5}, "expect": "allow"}, {"tool": "rm", "expect": "deny"}]
    examples.write_text(json.dumps(good))
    done = surefoot_("policy", "test", "examples.json")
    assert (done.exit_code, done.output.startswith("2 examples, 0 wrong")) == (0, True)
    examples.write_text(json.dumps([*good, {"tool": "pay", "args": {"amount": 5000}, "expect": "allow"}]))
    done = surefoot_("policy", "test", "examples.json")
    assert done.exit_code == 4
    assert "expected allow, is approve (tools[0]: big payments)" in done.output
    assert len(json.loads(surefoot_("policy", "test", "examples.json", "--json").stdout)["wrong"]) == 1
    for text in ("[]", "{", '[{"tool": "pay"}]', '["pay"]'):
        examples.write_text(text)
        assert surefoot_("policy", "test", "examples.json").exit_code == 2


def test_policy_schema(surefoot_: Callable[..., Result]) -> None:
    """It prints the schema that is published."""
    published = Path(__file__).parent.parent.parent / "docs" / "reference" / "policy.schema.json"
    assert json.loads(surefoot_("policy", "schema").output) == json.loads(published.read_text(encoding="utf-8"))


def test_approvals(surefoot_: Callable[..., Result], waiting: str) -> None:
    """They are listed, shown, decided once, by somebody who may."""
    assert waiting in surefoot_("approvals", "list").output
    assert json.loads(surefoot_("approvals", "list", "--json").output)["approvals"][0]["arguments"] == {"amount": 5000}
    shown = surefoot_("approvals", "show", waiting).output
    assert "big payments" in shown
    assert f"surefoot approvals approve {waiting}" in shown
    assert surefoot_("approvals", "approve", waiting, "--by", "agent").exit_code == 4
    done = surefoot_("approvals", "approve", waiting, "--by", "maria", "--comment", "fine")
    assert (done.exit_code, done.output.startswith(f"{waiting} is approved by maria. Resume run run_")) == (0, True)
    assert surefoot_("approvals", "deny", waiting, "--by", "bert").exit_code == 8
    assert surefoot_("approvals", "list").output.count("\n") == 1
    assert waiting in surefoot_("approvals", "list", "--all").output
    assert json.loads(surefoot_("approvals", "show", waiting, "--json").output)["approval"]["decided_by"] == "maria"
    assert surefoot_("approvals", "show", "appr_0").exit_code == 3


def test_approvals_deny_and_edit(surefoot_: Callable[..., Result], waiting: str) -> None:
    """An edit needs an object of arguments, and is a decision like any other."""
    for wrong in ("{", "[1]"):
        assert surefoot_("approvals", "edit", waiting, "--arguments", wrong).exit_code == 2
    done = surefoot_("approvals", "edit", waiting, "--arguments", '{"amount": 5}', "--by", "maria")
    assert (done.exit_code, "is denied by maria" in done.output) == (0, True)
    told = json.loads(surefoot_("approvals", "grants", "--json").output)["grants"]
    assert [(grant["tool"], grant["uses"]) for grant in told] == [("pay", 1)]


def test_approvals_grant_and_revoke(surefoot_: Callable[..., Result], waiting: str) -> None:
    """A grant is given, listed and taken back."""
    done = surefoot_("approvals", "grant", "pay*", "--when", "args.amount < 9000", "--uses", "2", "--by", "maria")
    assert done.exit_code == 0
    grant = done.output.split()[0]
    assert grant in surefoot_("approvals", "grants").output
    done = surefoot_("approvals", "revoke", grant, "--by", "maria")
    assert done.output == f"{grant} is revoked; it was used 0 times\n"
    assert surefoot_("approvals", "grant", "pay", "--when", "1 +").exit_code == 2
    assert surefoot_("approvals", "grant", "pay", "--expires", "inf").exit_code == 2
    assert surefoot_("approvals", "grant", "pay", "--expires", "1e300").output.split(" until ")[1].startswith("never")
    assert "never" in surefoot_("approvals", "grants").output
    assert waiting


def test_runs_stop(surefoot_: Callable[..., Result], waiting: str, tmp_path: Path) -> None:
    """A stopped run says how it goes on; exactly one thing is stopped at a time."""
    run_id = Guard(f"sqlite:///{tmp_path}/s.db").runs.list()[0].run_id
    done = surefoot_("runs", "stop", run_id, "--by", "maria", "--reason", "smoke")
    assert done.output == "stopped by maria; the same command with --release lets it go on\n"
    assert surefoot_("runs", "stop", "--all", "--release").output == "it was not stopped\n"
    assert surefoot_("runs", "stop", run_id, "--release").output == "released; resume the runs to go on\n"
    assert surefoot_("runs", "stop").exit_code == 2
    assert surefoot_("runs", "stop", run_id, "--all").exit_code == 2
    assert surefoot_("runs", "stop", "run_0").exit_code == 3
    assert waiting


def test_runs_stop_of_a_tenant_that_nobody_has(surefoot_: Callable[..., Result], waiting: str) -> None:
    """A name that no run has is stopped for the future, and that is what is said: it may be a slip."""
    done = surefoot_("runs", "stop", "--tenant", "acmee", "--by", "maria")
    assert done.exit_code == 0
    assert "no run of the tenant acmee is known yet: what begins from now on starts no effect\n" in done.output
    assert "is known yet" not in surefoot_("runs", "stop", "--tenant", "default", "--by", "maria").output
    assert "is known yet" not in surefoot_("runs", "stop", "--all", "--by", "maria").output
    assert waiting


def test_runs_cost(surefoot_: Callable[..., Result], tmp_path: Path) -> None:
    """What models used is summed over what is asked for: of one run, or of all, or of one tenant's."""
    guard = Guard(f"sqlite:///{tmp_path}/s.db")

    @surefoot.tool()
    def think(model: str) -> None:
        surefoot_policy.record(model=model, input_tokens=10, output_tokens=1, cost_usd=0.5)

    def work() -> None:
        surefoot_policy.record(model="big", input_tokens=100, cost_usd=2.0, agent="planner")
        think("small")

    for tenant in ("one", "one", "other"):
        with surefoot.run(tenant=tenant):
            surefoot.wrap(work, guard=guard)()
    run_id = guard.runs.list()[0].run_id
    told = json.loads(surefoot_("runs", "cost", run_id, "--json").output)
    assert {(used["agent"], used["step"], used["tool"], used["model"], used["cost_usd"]) for used in told["usage"]} == {
        ("planner", "work", "", "big", 2.0),
        ("work", "work", "think", "small", 0.5),
    }
    told = json.loads(surefoot_("runs", "cost", "--by", "model", "--json").output)
    assert (told["cost_usd"], [(used["model"], used["replies"]) for used in told["usage"]]) == (7.5, [("big", 3), ("small", 3)])
    by_tenant = json.loads(surefoot_("runs", "cost", "--by", "tenant", "--by", "tool", "--json").output)["usage"]
    assert [(used["tenant"], used["tool"], used["cost_usd"]) for used in by_tenant][:2] == [("one", "", 4.0), ("other", "", 2.0)]
    assert "333 tokens" not in surefoot_("runs", "cost", "--tenant", "one").output
    assert "222 tokens, 5.000000 US dollars" in surefoot_("runs", "cost", "--tenant", "one").output
    assert surefoot_("runs", "cost", "run_0").exit_code == 3
    with surefoot.run("unpriced"):
        surefoot.wrap(lambda: surefoot_policy.record(model="new", input_tokens=1), guard=guard)()
    assert "without a price, and counted as 0: new;" in surefoot_("runs", "cost").output


def test_tools_init_writes_a_policy(surefoot_: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first version of a policy file names every tool that nobody classified, and can be used as it is."""
    agent: dict[str, Any] = {
        "agent.py": "from langchain_core.tools import tool\nfrom langgraph.graph import START, MessagesState, StateGraph\n"
        "from langgraph.prebuilt import ToolNode\n\n@tool\ndef send_mail(to: str) -> str:\n    'Send.'\n    return to\n\n"
        "builder = StateGraph(MessagesState)\nbuilder.add_node('tools', ToolNode([send_mail]))\nbuilder.add_edge(START, 'tools')\n"
        "graph = builder.compile()\n"
    }
    for name, text in agent.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    done = surefoot_("tools", "init", "agent:graph", "--output", "first.yaml")
    assert done.exit_code == 0, done.output
    assert "1 tools" in surefoot_("policy", "check", "--policy", "first.yaml").output
    assert 'tool: "send_mail"' in (tmp_path / "first.yaml").read_text()


PAGES = {page.name: page for page in (Path(__file__).parents[2] / "docs" / "how-to").glob("*.md")}


def documented(page: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the policies of a page that examples follow, each with its examples: a policy counts until the next examples."""
    found, policy = [], ""
    for language, text in re.findall(r"^```(yaml|json)\n(.*?)^```", PAGES[page].read_text(), re.MULTILINE | re.DOTALL):
        if language == "json":
            found.append((policy, json.loads(text)))
            policy = ""
        else:
            policy = policy or text
    return found


SHOWN = [
    (name, number) for name, page in sorted(PAGES.items()) if '"expect"' in page.read_text() for number, _ in enumerate(documented(name))
]


@pytest.mark.parametrize(("page", "number"), SHOWN)
def test_the_examples_in_the_docs_are_decided_as_they_say(surefoot_: Callable[..., Result], tmp_path: Path, page: str, number: int) -> None:
    """Each page's policies decide their examples as the page says; an example that says otherwise is found."""
    policy, examples = documented(page)[number]
    (tmp_path / "shown.yaml").write_text(policy)
    (tmp_path / "examples.json").write_text(json.dumps(examples))
    done = surefoot_("policy", "test", "examples.json", "--policy", "shown.yaml")
    assert (done.exit_code, f"{len(examples)} examples, 0 wrong" in done.output) == (0, True), done.output
    examples[0]["expect"] = "deny" if examples[0]["expect"] != "deny" else "allow"
    (tmp_path / "examples.json").write_text(json.dumps(examples))
    done = surefoot_("policy", "test", "examples.json", "--policy", "shown.yaml")
    assert (done.exit_code, "1 wrong" in done.output) == (4, True)


def test_the_pages_about_policies_have_examples() -> None:
    """The test above is about something: policies and approvals are shown with examples."""
    assert sum(len(examples) for _, examples in documented("policy.md")) >= 5
    assert sum(len(examples) for _, examples in documented("approvals.md")) >= 2


@pytest.mark.parametrize("tool", ["shell", "routed"])
def test_policy_explain_sees_sandboxes(surefoot_: Callable[..., Result], tmp_path: Path, tool: str) -> None:
    """A tool whose executor nobody has installed is denied when it is explained and tested, as it is when it is called."""
    text = "tiers: {box: {sandbox: jail}}\ntools: [{tool: shell, sandbox: jail}, {tool: routed, tier: box}]\n"
    (tmp_path / "surefoot.yaml").write_text(text)
    (tmp_path / "examples.json").write_text(json.dumps([{"tool": tool, "expect": "deny"}]))
    done = surefoot_("policy", "explain", tool)
    assert done.output.startswith("deny: ")
    assert "in the sandbox 'jail', and no executor of that name is installed" in done.output
    assert surefoot_("policy", "test", "examples.json").exit_code == 0
    assert surefoot_("policy", "explain", tool, "--sandbox", "jail").output.startswith("allow:")
    assert surefoot_("policy", "test", "examples.json", "--sandbox", "jail").exit_code == 4
    assert surefoot_("policy", "explain", "look").output.startswith("allow:")


@pytest.mark.parametrize(
    ("example", "why"),
    [
        ({"tool": "rm", "arg": {}, "expect": "deny"}, r"examples.json[1]: arg is no key of an example"),
        ({"tool": "rm", "expect": "denied"}, r"examples.json[1]: expect 'denied' is no decision"),
    ],
)
def test_policy_test_refuses_what_it_would_not_look_at(
    surefoot_: Callable[..., Result], tmp_path: Path, example: dict[str, Any], why: str
) -> None:
    """An example with a key or a decision that does not exist would prove something else than it says."""
    (tmp_path / "examples.json").write_text(json.dumps([{"tool": "rm", "expect": "deny"}, example]))
    done = surefoot_("policy", "test", "examples.json")
    assert done.exit_code == 2
    assert why in done.output


MANY = "[" * 5000 + "]" * 5000
LAUGHS = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{p: *a{n - 1}, q: *a{n - 1}}}\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("p.yaml", "tools: &x\n  - *x\n", "p.yaml:1: tools[0]: it contains itself"),
        ("p.yaml", "tools:\n  - tool: pay\n    arguments: &x {properties: *x}\n", "arguments.properties: it contains itself"),
        ("p.yaml", f"tools: {MANY}\n", "it is nested too deep for a policy"),
        ("p.yaml", LAUGHS, "its aliases make more than 100,000 keys of it"),
        ("p.json", f'{{"tools": {MANY}}}', "it is nested too deep for a policy"),
        ("p.toml", f"tools = {MANY}\n", "it is nested too deep for a policy"),
    ],
    ids=["cycle", "cycle in a mapping", "deep YAML", "aliases", "deep JSON", "deep TOML"],
)
def test_policy_check_of_a_file_that_does_not_end(surefoot_: Callable[..., Result], tmp_path: Path, name: str, text: str, why: str) -> None:
    """I26: a file that is inside of itself, or has no bottom, is refused in one sentence."""
    (tmp_path / name).write_text(text)
    done = surefoot_("policy", "check", "--policy", name)
    assert (done.exit_code, why in done.output) == (2, True), done.output


@pytest.mark.parametrize(
    ("project", "why"),
    [
        (b"[tool.surefoot", "pyproject.toml: not TOML"),
        (b"\xff\xfe[tool]", "pyproject.toml cannot be read"),
        (b"tool = 3", "there is no surefoot.yaml"),
        (b"[tool.other]", "there is no surefoot.yaml"),
    ],
)
def test_policy_check_beside_a_broken_project(surefoot_: Callable[..., Result], tmp_path: Path, project: bytes, why: str) -> None:
    """Without surefoot.yaml the project's file is looked into: what is wrong with that one is said in one sentence too."""
    (tmp_path / "surefoot.yaml").unlink(missing_ok=True)
    (tmp_path / "pyproject.toml").write_bytes(project)
    done = surefoot_("policy", "check")
    assert (done.exit_code, why in done.output) == (2, True), done.output


@pytest.mark.parametrize("where", ["$ref", "properties"])
def test_policy_check_fetches_nothing(surefoot_: Callable[..., Result], tmp_path: Path, where: str) -> None:
    """I26: a schema that is somewhere else is refused when the file is read, and nobody is asked for it."""
    asked: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        ref = {"$ref": f"http://127.0.0.1:{server.server_port}/schema.json"}
        schema = ref if where == "$ref" else {"properties": {"amount": ref}}
        (tmp_path / "p.json").write_text(json.dumps({"tools": [{"tool": "pay", "arguments": schema}]}))
        done = surefoot_("policy", "check", "--policy", "p.json")
        server.shutdown()
    serving.join(60)
    assert done.exit_code == 2
    assert "tools[0]:" in done.output
    assert "schema.json is somewhere else" in done.output
    assert asked == []
