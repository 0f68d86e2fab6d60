"""The policy file: every key acts, every mistake says where it is, nothing that is broken allows."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash import Effects
from pydantic import BaseModel

import surefoot
from surefoot import Denied, Effect, Guard, InDoubt, ToolRule, UsageError
from surefoot_policy import LANGUAGES, FilePolicy
from surefoot_policy.load import find, parse
from surefoot_policy.model import json_schema
from surefoot_policy.rules import Question, tightened

Policed = Callable[..., Guard]
probed: list[str] = []


def probe(call: surefoot.Call) -> surefoot.types.ProbeAnswer:
    """Say that it happened."""
    probed.append(call.tool)
    return surefoot.happened("probed")


@pytest.fixture
def pay(effects: Effects) -> Callable[..., Any]:
    """A tool that nobody classified."""

    @surefoot.tool()
    def pay(amount: int = 0, card: str = "", order: str = "") -> str:
        effects.add("pay", amount)
        if amount == 13:
            raise KeyError("unlucky")
        if amount == 7:
            time.sleep(0.3)
        return f"paid {amount}"

    pay.__qualname__ = pay.__name__ = "pay"
    return pay


def once(guard: Guard, pay: Callable[..., Any], **arguments: Any) -> Any:
    """Call the tool in a run of its own."""
    return surefoot.wrap(lambda: pay(**arguments), guard=guard)()


def events(guard: Guard, kind: str) -> list[dict[str, Any]]:
    """Return the data of the events of a kind, of all runs."""
    return [dict(e.data) for run in guard.runs.list() for e in guard.runs.events(run.run_id) if e.type == kind]


# --- every key acts

DENIED = {
    "tool: a name": ("tools: [{tool: pay, decision: deny}]", {}, "tools[0] says deny"),
    "tool: a pattern": ("tools: [{tool: 'p*', decision: deny}]", {}, "tools[0] says deny"),
    "tool: several": ("tools: [{tool: [rm, pay], decision: deny}]", {}, "tools[0] says deny"),
    "name": ("tools: [{tool: pay, name: no payments, decision: deny}]", {}, "no payments says deny"),
    "when": ("tools: [{tool: pay, when: args.amount > 10, decision: deny}]", {"amount": 11}, "tools[0] says deny"),
    "reason": ("tools: [{tool: pay, decision: deny, reason: the shop is closed}]", {}, "the shop is closed"),
    "arguments": (
        "tools: [{tool: pay, arguments: {properties: {amount: {maximum: 5}}}}]",
        {"amount": 4111},
        "do not fit tools[0]: $.amount: the value is greater than the maximum of 5",
    ),
    "default": ("default: deny", {}, "the policy says 'default: deny'"),
    "tiers: decision and reason": (
        "tiers: {money: {decision: deny, reason: money stays in the house}}\ntools: [{tool: pay, tier: money}]",
        {},
        "money stays in the house",
    ),
    "tier where it holds": (
        "tiers: {money: {decision: deny}}\ntools: [{tool: pay, tier: money, when: args.amount > 10}]",
        {"amount": 11},
        "tier money says deny",
    ),
    "a tier loosens nothing": (
        "tiers: {money: {decision: allow}}\ntools: [{tool: pay, tier: money, decision: deny}]",
        {},
        "tools[0] says deny",
    ),
    "sandbox": ("tools: [{tool: pay, sandbox: docker}]", {}, "in the sandbox 'docker', and no executor of that name is installed"),
    "sandboxes that differ": (
        "tools: [{tool: pay, sandbox: docker}, {tool: '*', sandbox: jail}]",
        {},
        "in the sandbox 'docker and jail', and no executor",
    ),
    "the strictest counts": ("tools: [{tool: pay, decision: allow}, {tool: '*', decision: deny}]", {}, "tools[1] says deny"),
    "expressions: a name of the call": (
        "tools: [{tool: '*', when: \"tool == 'pay' && tenant == 'default'\", decision: deny}]",
        {},
        "says deny",
    ),
    "effect in a condition": (
        "tools: [{tool: pay, effect: unsafe}, {tool: pay, when: \"effect == 'unsafe'\", decision: deny}]",
        {},
        "tools[1] says deny",
    ),
}


@pytest.mark.parametrize("key", DENIED)
def test_a_key_that_denies(key: str, policed: Policed, pay: Any, effects: Effects) -> None:
    """The call is not executed, the reason is told, and the decision is recorded with the policy's version."""
    text, arguments, reason = DENIED[key]
    guard = policed(text)
    with pytest.raises(Denied) as told:
        once(guard, pay, **arguments)
    assert reason in str(told.value)
    assert effects.count("pay") == 0
    [refused] = events(guard, "policy.refused")
    assert refused["policy"] == guard.policy.version  # type: ignore[union-attr]
    assert refused["policy"].startswith("policy@")


ALLOWED = {
    "decision: allow": ("default: deny\ntools: [{tool: pay, decision: allow}]", {}),
    "tier where it does not hold": (
        "tiers: {money: {decision: deny}}\ntools: [{tool: pay, tier: money, when: args.amount > 10}]",
        {"amount": 10},
    ),
    "when it does not hold": ("tools: [{tool: pay, when: args.amount > 10, decision: deny}]", {"amount": 10}),
    "another tool": ("tools: [{tool: [rm, 'pay?'], decision: deny}]", {}),
    "arguments that fit": ("tools: [{tool: pay, arguments: {properties: {amount: {maximum: 5}}}}]", {"amount": 5}),
    "an empty policy": ("version: 1", {}),
}


@pytest.mark.parametrize("key", ALLOWED)
def test_a_key_that_allows(key: str, policed: Policed, pay: Any, effects: Effects) -> None:
    """The call is executed, and the event says under which version of the policy."""
    text, arguments = ALLOWED[key]
    guard = policed(text + "\nname: shop\n")
    once(guard, pay, **arguments)
    assert effects.count("pay") == 1
    [allowed] = events(guard, "policy.allowed")
    assert allowed["policy"] == guard.policy.version  # type: ignore[union-attr]
    assert allowed["policy"].startswith("shop@")


def test_the_version_changes_with_what_the_policy_says(policed: Policed) -> None:
    """Two policies that say the same have one version, whatever their spelling; another text is another version."""
    one = policed("default: allow").policy
    assert one.version == policed("{default: allow}  # the same").policy.version  # type: ignore[union-attr]
    assert one.version != policed("default: deny").policy.version  # type: ignore[union-attr]


RULES = {
    "effect": ("effect: unsafe", "effect", Effect.UNSAFE),
    "key": ("key: [order]", "key", ("order",)),
    "scope": ("key: [order], scope: run", "scope", "run"),
    "probe": ("probe: 'test_file:probe'", "probe", None),
    "not_committed": ("not_committed: ['builtins:KeyError']", "not_committed", (KeyError,)),
    "timeout": ("timeout: 2", "timeout", 2.0),
    "redact": ("redact: [card]", "redact", ["card"]),
    "compensate": ("compensate: 'test_file:probe'", "compensate", None),
    "depends_on": ("depends_on: [bank]", "depends_on", ("bank",)),
}


@pytest.mark.parametrize("field", RULES)
def test_every_field_of_a_tool_rule_can_be_declared(field: str, policed: Policed, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file declares about a tool is in force."""
    monkeypatch.setitem(sys.modules, "test_file", sys.modules[__name__])
    text, name, wanted = RULES[field]
    rule = policed(f"tools: [{{tool: 'pay*', {text}}}]").rule("pay_all")
    assert getattr(rule, name) == (wanted if wanted is not None else probe)
    assert field in ToolRule.__dataclass_fields__


def test_every_field_of_a_tool_rule_has_a_test() -> None:
    """Nothing that ToolRule knows is missing above."""
    assert set(RULES) == set(ToolRule.__dataclass_fields__)


def test_a_key_makes_two_requests_one(policed: Policed, pay: Any, effects: Effects) -> None:
    """``key:`` acts: the same order is paid once in a tenant."""
    guard = policed("tools: [{tool: pay, key: [order]}]")
    assert [once(guard, pay, amount=5, order="A"), once(guard, pay, amount=5, order="A")] == ["paid 5", "paid 5"]
    assert effects.count("pay") == 1


def test_not_committed_lets_it_run_again(policed: Policed, pay: Any, effects: Effects) -> None:
    """``not_committed:`` acts: an error that proves that nothing happened lets the same request run again."""
    guard = policed("tools: [{tool: pay, not_committed: ['builtins:KeyError']}]")
    program = surefoot.wrap(lambda: pay(amount=13), guard=guard)
    for _ in range(2):
        with surefoot.run("r"), pytest.raises(KeyError):
            program()
    assert effects.count("pay") == 2


def test_a_timeout_ends_the_wait(policed: Policed, pay: Any) -> None:
    """``timeout:`` and ``effect: unsafe`` act: past its deadline the call is in doubt and holds the run."""
    with pytest.raises(InDoubt, match=r"ran past its deadline of 0\.01 s"):
        once(policed("tools: [{tool: pay, effect: unsafe, timeout: 0.01}]"), pay, amount=7)


def test_a_probe_is_asked(policed: Policed, pay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """``probe:`` acts: it settles what is in doubt."""
    monkeypatch.setitem(sys.modules, "test_file", sys.modules[__name__])
    guard = policed("tools: [{tool: pay, effect: unsafe, timeout: 0.01, probe: 'test_file:probe'}]")
    program = surefoot.wrap(lambda: pay(amount=7), guard=guard)
    with surefoot.run("r"):
        with pytest.raises(InDoubt):
            program()
        assert program() == "probed"


def test_as_67_a_redacted_argument_is_nowhere_and_dedup_works(policed: Policed, pay: Any, effects: Effects, tmp_path: Path) -> None:
    """AS-67: ``redact:`` acts: the value is in no file of the store, nor on a card or in an error, and the same request is one effect."""
    guard = policed("tools: [{tool: pay, key: [order], redact: [card], arguments: {properties: {card: {maxLength: 12}}}}]")
    for _ in range(2):
        once(guard, pay, amount=5, card="4111-canary", order="A")
    assert effects.count("pay") == 1
    assert json.loads(guard.calls.list()[0].arguments or "")["card"] == "[redacted]"
    with pytest.raises(Denied) as told:
        once(guard, pay, card="4111-canary-too-long")
    assert "4111" not in str(told.value)
    guard.close()
    assert [path.name for path in tmp_path.glob("surefoot.db*") if b"4111-canary" in path.read_bytes()] == []


def test_as_68_a_result_with_a_secret_is_withheld(policed: Policed, effects: Effects) -> None:
    """AS-68: a result that cannot be stored without its secret is not replayed half redacted: it is withheld, and nothing runs again."""
    surefoot.register_secret("sk-canary-0123456789", name="key")
    fails = [True]

    @surefoot.tool()
    def login() -> str:
        effects.add("login")
        return "token sk-canary-0123456789"

    def program() -> str:
        token: str = login()
        if fails:
            fails.clear()
            raise ConnectionError
        return token

    wrapped = surefoot.wrap(program, guard=policed("default: allow"))
    with surefoot.run("r"):
        with pytest.warns(surefoot.SurefootWarning, match="its result cannot be replayed"), pytest.raises(ConnectionError):
            wrapped()
        with pytest.raises(surefoot.ResultUnavailable, match="must be redacted") as told:
            wrapped()
    assert "canary" not in str(told.value)
    assert effects.count("login") == 1


# --- tightening only

TIGHTER = [
    (ToolRule(), ToolRule("read"), "effect", Effect.READ),
    (ToolRule("unsafe"), ToolRule("read"), "effect", Effect.UNSAFE),
    (ToolRule("idempotent"), ToolRule("read"), "effect", Effect.IDEMPOTENT),
    (ToolRule("read"), ToolRule("unsafe"), "effect", Effect.UNSAFE),
    (ToolRule("read"), ToolRule(), "effect", Effect.READ),
    (ToolRule("composite"), ToolRule("unsafe"), "effect", Effect.COMPOSITE),
    (ToolRule("unsafe"), ToolRule("composite"), "effect", Effect.UNSAFE),
    (ToolRule(timeout=1), ToolRule(timeout=5), "timeout", 1),
    (ToolRule(timeout=5), ToolRule(timeout=1), "timeout", 1),
    (ToolRule(key="a"), ToolRule(key="b", scope="run"), "key", ("a",)),
    (ToolRule(key="a"), ToolRule(key="b", scope="run"), "scope", "tenant"),
    (ToolRule(not_committed=(KeyError,)), ToolRule(not_committed=(Exception,)), "not_committed", (KeyError,)),
    (ToolRule(redact=["a"]), ToolRule(redact=["b", "a"]), "redact", ["a", "b"]),
    (ToolRule(probe=probe), ToolRule(probe=print), "probe", probe),
    (ToolRule(depends_on="a"), ToolRule(depends_on=["b", "a"]), "depends_on", ("a", "b")),
]


@pytest.mark.parametrize(("code", "policy", "field", "wanted"), TIGHTER)
def test_a_policy_only_tightens(code: ToolRule, policy: ToolRule, field: str, wanted: Any) -> None:
    """What the code declares stands; a policy fills in what it leaves open, makes effects stricter and timeouts shorter."""
    assert getattr(tightened(code, policy), field) == wanted


def test_a_policy_does_not_make_an_unsafe_tool_harmless(policed: Policed) -> None:
    """Whatever the file says, a tool that the code declares unsafe stays so, and of two entries the stricter one counts."""
    guard = policed("tools: [{tool: pay, effect: read}, {tool: '*', effect: idempotent}]", tools={"pay": ToolRule("unsafe")})
    assert (guard.rule("pay").effect, guard.rule("other").effect) == (Effect.UNSAFE, Effect.IDEMPOTENT)


# --- mistakes

WRONG = {
    "tols: []": "surefoot.yaml:1: tols: unknown key",
    "tools:\n  - tool: pay\n    efect: unsafe\n": "surefoot.yaml:3: tools[0].efect: unknown key",
    "tools:\n  - tool: pay\n    effect: unsaef\n": "surefoot.yaml:3: tools[0].effect: Input should be 'read'",
    "tools:\n  - tool: pay\n": "surefoot.yaml:2: tools[0]: the entry says nothing",
    "tools:\n  - tool: pay\n    decision: maybe\n": "surefoot.yaml:3: tools[0].decision: Input should be 'allow'",
    "tools:\n  - {tool: pay, when: 'true', effect: unsafe, decision: deny}\n": "tools[0]: effect cannot depend on when=",
    "tools:\n  - {tool: pay, when: 'true'}\n": "tools[0]: an entry with when= needs a decision= or a tier=",
    "tools: [{tool: pay, tier: money}]": "surefoot.yaml:1: the policy: tools[0].tier: there is no tier 'money'; there are: none",
    "tiers: {shell: {sandbox: jail}}\ntools: [{tool: pay, when: 'true', tier: shell}]": "the sandbox of 'shell' cannot depend on when=",
    "tools: [{tool: pay, when: 'true', decision: allow, sandbox: jail}]": "tools[0]: sandbox cannot depend on when=",
    "tools: [{tool: pay, when: 'true', decision: allow, plan: {targets: 'a:b'}}]": "tools[0]: plan cannot depend on when=",
    "tools:\n  - {tool: pay, scope: run, effect: read}\n": "give key= as well",
    "tools:\n  - {tool: pay, when: '1 +', decision: deny}\n": "tools[0]: Failed to parse",
    "tools:\n  - {tool: pay, when: 'argz.amount > 1', decision: deny}\n": "tools[0]: argz is not known here; there are args",
    "tools:\n  - {tool: pay, when: 'open(tool)', decision: deny}\n": "tools[0]: there is no function open",
    "tools:\n  - {tool: pay, arguments: {type: objekt}}\n": "tools[0]: ",
    "tools:\n  - {tool: pay, probe: nowhere}\n": "tools[0].probe: 'nowhere' is not of the form module:object",
    "tools:\n  - {tool: pay, probe: 'nowhere:probe'}\n": "tools[0]: nowhere:probe cannot be loaded",
    "tools:\n  - {tool: pay, timeout: -1}\n": "tools[0].timeout: Input should be greater than or equal to 0",
    "tools: [{tool: pay, effect: read, effect: unsafe}]": "tools[0].effect: the key is there twice",
    "budgets: [{per: run}]": "budgets[0]: give exactly one of calls",
    "budgets: [{calls: 1, tokens: 2}]": "budgets[0]: give exactly one of calls",
    "budgets: [{tokens: 1, effect: unsafe}]": "budgets[0]: tool= and effect= choose which calls count",
    "budgets: [{depth: 1, per: tenant}]": "budgets[0]: depth and iterations are counted per run",
    "guardrails: [{when: 'sum(token) > 1'}]": "guardrails[0]: token is not known here",
    "approvals: {expires: 0}": "approvals.expires: Input should be greater than 0",
    "version: 2": "surefoot.yaml:1: version: Input should be 1",
    "expressions: python\ntools: [{tool: pay, when: 'true', decision: deny}]": "'python' is not an expression language; there are cel",
    "- a list": "a policy is a mapping",
    "a: [": "surefoot.yaml:1: not YAML",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_mistake_says_where_it_is(text: str, policed: Policed) -> None:
    """I26: an unknown key or an entry that cannot be is one sentence with file, line and key; nothing is wrapped under it."""
    with pytest.raises(UsageError) as told:
        policed(text)
    assert WRONG[text] in str(told.value)
    assert "\n" not in str(told.value)


BROKEN = {
    "a condition that cannot be evaluated": (
        "tools: [{tool: pay, when: args.missing > 1, decision: allow}]",
        "tools[0] cannot be evaluated (KeyError",
    ),
    "a condition that is neither true nor false": (
        "tools: [{tool: pay, when: args.amount, decision: allow}]",
        "is not true or false but int",
    ),
    "a condition over things of two kinds": (
        "tools: [{tool: pay, when: \"args.amount > 'a'\", decision: allow}]",
        "cannot be evaluated (TypeError",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_denies_and_says_where(kind: str, policed: Policed, pay: Any, effects: Effects) -> None:
    """I26, AS-46: an entry that cannot be evaluated denies, even if it would have allowed; the reason is ``policy_unavailable``."""
    text, reason = BROKEN[kind]
    with pytest.raises(Denied) as told:
        once(policed(text), pay, amount=5)
    assert "policy_unavailable" in str(told.value)
    assert reason in str(told.value)
    assert effects.count("pay") == 0


@pytest.mark.parametrize("answer", [None, True, "allow", RuntimeError("down")])
def test_as_46_a_policy_plugin_that_raises_or_answers_junk_denies(answer: Any, tmp_path: Path, pay: Any, effects: Effects) -> None:
    """AS-46, I16: a plugin's admission that raises, or answers anything but Allow or Deny, lets no call run; declared reads still run."""

    class Broken(surefoot.Admission):
        reads = True

        def admit(self, *_: Any) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        def spend(self, *_: Any) -> None:
            """Use nothing."""

    class Plugin(surefoot.Policy):
        version = "1"

        def gates(self) -> list[surefoot.Gate]:
            return []

        def admissions(self) -> list[surefoot.Admission]:
            return [Broken()]

        def rule(self, tool: str, declared: ToolRule) -> ToolRule:
            return declared

    with pytest.raises(Denied, match="policy_unavailable: the gate Broken"):
        once(Guard(f"sqlite:///{tmp_path}/s.db", policy=Plugin()), pay)
    assert effects.count("pay") == 0
    assert once(Guard(f"sqlite:///{tmp_path}/s.db", policy=Plugin(), reads=["pay"]), pay) == "paid 0"


# --- forms of the file


def test_the_same_policy_in_toml_json_and_pyproject(tmp_path: Path, pay: Any) -> None:
    """TOML needs no extra, ``[tool.surefoot]`` is found, and all forms say the same."""
    (tmp_path / "a.toml").write_text('[[tools]]\ntool = "pay"\ndecision = "deny"\n')
    (tmp_path / "b.json").write_text('{"tools": [{"tool": "pay", "decision": "deny"}]}')
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n[[tool.surefoot.tools]]\ntool = "pay"\ndecision = "deny"\n')
    assert find(tmp_path) == tmp_path / "pyproject.toml"
    paths = [tmp_path / "a.toml", tmp_path / "b.json", tmp_path / "pyproject.toml"]
    assert len({FilePolicy.read(path).version for path in paths}) == 1
    for path in paths:
        with pytest.raises(Denied, match="tools\\[0\\] says deny"):
            once(Guard("memory://", policy=str(path)), pay)
    (tmp_path / "surefoot.yaml").write_text("default: deny")
    assert find(tmp_path) == tmp_path / "surefoot.yaml"
    assert find(tmp_path / "nowhere") is None


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A policy that is missing, or no TOML or JSON, wraps nothing."""
    (tmp_path / "bad.toml").write_text("a = ")
    (tmp_path / "bad.json").write_text("{")
    for name, said in (("none.yaml", "cannot be read"), ("bad.toml", "not TOML"), ("bad.json", "not JSON")):
        with pytest.raises(UsageError, match=said):
            Guard("memory://", policy=str(tmp_path / name))


def test_the_published_schema_names_and_explains_every_key() -> None:
    """The JSON Schema has every key of the models, with what it means."""
    schema = json_schema()
    for name, definition in {**schema["$defs"], "PolicyFile": schema}.items():
        for key, entry in definition["properties"].items():
            assert "$ref" in entry or entry.get("description"), f"{name}.{key}"
        assert definition["additionalProperties"] is False
    assert set(schema["properties"]) == {
        "version",
        "name",
        "default",
        "expressions",
        "tools",
        "approvals",
        "budgets",
        "guardrails",
        "prices",
        "redaction",
        "tiers",
    }


def test_another_language_is_a_plugin(policed: Policed, pay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """``expressions:`` acts: a language that a plugin adds compiles the conditions; it may raise, which denies."""

    class Shouting:
        def compile(self, text: str, names: Any) -> Any:
            return lambda values: bool(1 / 0) if text == "BROKEN" else text == text.upper()

        def values(self, values: Any) -> Any:
            return values

    monkeypatch.setitem(LANGUAGES, "shouting", Shouting)
    with pytest.raises(Denied, match="tools\\[0\\] says deny"):
        once(policed("expressions: shouting\ntools: [{tool: pay, when: ALWAYS, decision: deny}]"), pay)
    assert once(policed("expressions: shouting\ntools: [{tool: pay, when: never, decision: deny}]"), pay) == "paid 0"
    with pytest.raises(Denied, match="cannot be evaluated \\(ZeroDivisionError"):
        once(policed("expressions: shouting\ntools: [{tool: pay, when: BROKEN, decision: allow}]"), pay)


def test_deciding_is_pure() -> None:
    """I26: the same question has the same answer, whatever was asked before, and asking changes nothing."""
    policy = FilePolicy(parse({"tools": [{"tool": "p*", "when": "args.n > 1", "decision": "deny"}]}, "test"), "test")
    questions = [Question("pay", "unsafe", {"n": n}) for n in (1, 2, 1, 2)]
    assert [policy.rules.decide(question).decision for question in questions] == ["allow", "deny", "allow", "deny"]
    assert [question.args for question in questions] == [{"n": 1}, {"n": 2}, {"n": 1}, {"n": 2}]


def test_arguments_that_are_no_json_are_looked_at_too(policed: Policed, effects: Effects) -> None:
    """A condition sees what a model or dataclass says; what CEL has no form of denies."""

    class Order(BaseModel):
        amount: int

    @surefoot.tool()
    def order(what: Order) -> str:
        effects.add("order")
        return "ordered"

    order.__qualname__ = order.__name__ = "order"
    guard = policed("tools: [{tool: order, when: 'args.what[1].amount > 5', decision: deny}]")
    with pytest.raises(Denied, match="says deny"):
        surefoot.wrap(lambda: order(Order(amount=6)), guard=guard)()
    assert surefoot.wrap(lambda: order(Order(amount=5)), guard=guard)() == "ordered"
    assert effects.count("order") == 1
