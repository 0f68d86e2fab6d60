"""AS-67, AS-68: what ``redact:`` names is kept out of the record of its call, also where it stands as something else than an argument."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash import Effects

import surefoot
import surefoot_policy
from surefoot import ApprovalPending, Call, Denied, Deny, Gate, Guard, Hold, NotCommitted, ResultUnavailable, UsageError
from surefoot_policy import LANGUAGES, DryRun

Policed = Callable[..., Guard]
CARD = 'card "q4111z" \\ ünlike'
HIDES = "tools: [{tool: pay, effect: unsafe, redact: [card], decision: allow}]\n"
ASKS = HIDES.replace("allow", "approve")


@pytest.fixture
def pay(effects: Effects) -> Callable[..., Any]:
    """Makes a tool; ``says`` is what it does with the card."""

    def make(says: Callable[[str], Any] = lambda _card: "paid") -> Any:
        def pay(card: str, amount: int = 1) -> Any:
            effects.add("pay", amount)
            return says(card)

        pay.__qualname__ = "pay"
        return surefoot.tool()(pay)

    return make


def failing(kind: type[Exception]) -> Callable[[str], Any]:
    """Return what raises an error that has the card in it, twice."""

    def fail(card: str) -> Any:
        error = kind(f"{card} was declined")
        error.card = card  # type: ignore[attr-defined]
        raise error

    return fail


def go(guard: Guard, tool: Any, *, caught: tuple[type[Exception], ...] = (), **arguments: Any) -> None:
    """Pay in the run of these tests; whatever comes back stays with the program."""

    def program() -> None:
        with contextlib.suppress(*caught):
            tool(**{"card": CARD, **arguments})

    with surefoot.run("r"):
        surefoot.wrap(program, guard=guard)()


def leaks(folder: Path, guard: Guard) -> list[str]:
    """Return where the card is found: in the files of the store, and in what the inbox shows."""
    shown = repr([*guard.calls.list(), *guard.approvals.list(state=None), *guard.approvals.grants()])
    shown += repr([dict(e.data) for run in guard.runs.list() for e in guard.runs.events(run.run_id)])
    guard.close()
    spelled = {CARD, json.dumps(CARD)[1:-1], json.dumps(json.dumps(CARD))[1:-1], repr(CARD)[1:-1], "q4111z"}
    stored = [path.name for path in folder.glob("surefoot.db*") if any(form.encode() in path.read_bytes() for form in spelled)]
    return stored + (["inbox"] if any(form in shown for form in spelled) else [])


class Quoting(Gate):
    """Says no, or that a person must look, and quotes the card."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def check(self, call: Call) -> Any:
        """Answer."""
        return self.kind(f"{call.arguments['card']} is blocked")


class Complaining(surefoot_policy.Expressions):
    """A language whose conditions fail and quote the card."""

    bounded = True

    def compile(self, text: str, names: Any) -> Any:
        """Return a condition that fails."""

        def fail(values: Any) -> bool:
            raise ValueError(f"{values['args']['card']} is odd")

        return fail

    def values(self, values: Any) -> Any:
        """Return them as they are."""
        return values


WAYS = ["error", "proof", "result", "gate", "hold", "condition", "guardrail", "another argument"]


def played(way: str, policed: Policed, pay: Any, text: str) -> Guard:
    """Pay so that the card gets somewhere; return the guard."""
    if way in {"condition", "guardrail"}:
        broken = {"condition": "- {tool: pay, when: x, decision: deny}\n", "guardrail": "guardrails: [{when: x}]\n"}[way]
        rest = "expressions: complaining\n" + broken if way == "guardrail" else broken + "expressions: complaining\n"
        text = "tools:\n- " + text.removeprefix("tools: [").rstrip("]\n") + "\n" + rest
    guard = policed(text, gates=[Quoting({"gate": Deny, "hold": Hold}[way])] if way in {"gate", "hold"} else [])
    says: dict[str, Callable[[str], Any]] = {
        "error": failing(ConnectionError),
        "proof": failing(NotCommitted),
        "result": lambda card: {"charged": [f"of {card}."]},
    }
    caught = (ConnectionError, NotCommitted, Denied)
    if way == "another argument":

        def note(card: str, text: str) -> None: ...

        note.__qualname__ = "pay"
        go(guard, surefoot.tool()(note), text=f"of {CARD}")
    elif way == "hold":
        with pytest.raises(surefoot.InDoubt):
            go(guard, pay())
    else:
        with pytest.warns(surefoot.SurefootWarning) if way == "result" and "redact" in text else contextlib.nullcontext():
            go(guard, pay(says.get(way, lambda _card: "paid")), caught=caught)
    return guard


@pytest.mark.parametrize("way", WAYS)
def test_as_67_a_redacted_value_is_in_nothing_that_a_call_leaves(
    policed: Policed, pay: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """What a tool raises or returns, what a gate or a condition says, and another argument leave the value in no file of the store."""
    monkeypatch.setitem(LANGUAGES, "complaining", Complaining)
    assert leaks(tmp_path, played(way, policed, pay, HIDES)) == []


@pytest.mark.parametrize("way", WAYS)
def test_as_67_negative_control_a_value_that_nobody_redacts_is_found(
    policed: Policed, pay: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The same without ``redact:`` leaves the value in the store and in the inbox."""
    monkeypatch.setitem(LANGUAGES, "complaining", Complaining)
    assert "inbox" in (found := leaks(tmp_path, played(way, policed, pay, HIDES.replace(", redact: [card]", ""))))
    assert len(found) > 1


def test_as_68_a_result_with_a_redacted_value_is_withheld(policed: Policed, pay: Any, effects: Effects) -> None:
    """AS-68: who asked gets the whole result; where the run is resumed it is withheld, nothing of it is told and nothing runs again."""
    tool, guard, told = pay(lambda card: f"charged {card}"), policed(HIDES), list[str]()

    def program() -> None:
        told.append(tool(card=CARD))
        raise ConnectionError

    wrapped = surefoot.wrap(program, guard=guard)
    with surefoot.run("r"):
        with pytest.warns(surefoot.SurefootWarning, match="cannot be replayed"), pytest.raises(ConnectionError):
            wrapped()
        with pytest.raises(ResultUnavailable, match="must be redacted"):
            wrapped()
    assert told == [f"charged {CARD}"]
    assert effects.count("pay") == 1


def test_as_67_what_one_call_hides_another_one_may_say(policed: Policed, effects: Effects) -> None:
    """A value is hidden in its own call: another one that runs beside it keeps its result, and so does a later one."""
    guard, begun, ended = policed(HIDES), threading.Event(), threading.Event()

    def pay(card: str) -> str:
        begun.set()
        assert ended.wait(60)
        return "paid"

    def look() -> str:
        return f"saw {CARD}"

    pay.__qualname__, look.__qualname__ = "pay", "look"
    slow, quick = surefoot.tool()(pay), surefoot.tool()(look)
    paying = threading.Thread(target=go, args=(guard, slow))
    paying.start()
    assert begun.wait(60)
    assert surefoot.wrap(quick, guard=guard)() == f"saw {CARD}"
    ended.set()
    paying.join(60)
    assert surefoot.wrap(quick, guard=guard)() == f"saw {CARD}"
    values = {call.value for call in guard.calls.list() if call.tool == "look"}
    assert values == {json.dumps(f"saw {CARD}")}


def waiting(guard: Guard, tool: Any, **arguments: Any) -> str:
    """Have a person asked; return what about."""
    with pytest.raises(ApprovalPending):
        go(guard, tool, **arguments)
    return guard.approvals.list()[-1].id  # type: ignore[no-any-return]


@pytest.mark.parametrize("verb", ["approve", "deny", "edit"])
def test_as_67_what_a_person_types_is_searched_for_it(policed: Policed, pay: Any, tmp_path: Path, effects: Effects, verb: str) -> None:
    """A comment, and arguments in the place of these, that come from a process which does not know the value are kept without it."""
    asked = waiting(policed(ASKS), pay())
    desk = Guard(f"sqlite:///{tmp_path}/surefoot.db")
    comment = f"I know {CARD}, and {CARD}!"
    if verb == "edit":
        edited = desk.approvals.edit(asked, {"card": CARD, "amount": 5}, by="maria", comment=comment)
        assert edited.instead == {"card": "[redacted]", "amount": 5}
        go(policed(ASKS), pay(), amount=5)
        assert effects.count("pay", 5) == len(effects.all()) == 1
    else:
        getattr(desk.approvals, verb)(asked, by="maria", comment=comment)
    assert desk.approvals.show(asked).comment == "I know [redacted], and [redacted]!"
    assert leaks(tmp_path, desk) == []


def test_as_67_a_redacted_argument_cannot_be_edited(policed: Policed, pay: Any, tmp_path: Path, effects: Effects) -> None:
    """Another value in the place of a redacted one could neither be kept nor told to who asks: refused, and nothing is decided."""
    guard = policed(ASKS)
    asked = waiting(guard, pay())
    with pytest.raises(UsageError, match="card is redacted"):
        guard.approvals.edit(asked, {"card": "card q4111z of mine", "amount": 5}, by="maria")
    assert guard.approvals.show(asked).state == "pending"
    assert leaks(tmp_path, guard) == []


def test_as_67_a_comment_too_long_to_search_is_not_kept(policed: Policed, pay: Any, tmp_path: Path) -> None:
    """Where looking for a value would hold the store for long, nothing of the comment is kept."""
    guard = policed(ASKS)
    asked = waiting(guard, pay())
    guard.approvals.deny(asked, by="maria", comment="x" * 500_000 + CARD)
    assert guard.approvals.show(asked).comment == "[redacted]"


def targets(call: Call) -> list[str]:
    """Return what would be charged."""
    return [f"the account of {call.arguments['card']}"]


def test_as_67_targets_of_a_plan_hide_it(policed: Policed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a dry run would act on is kept without the value, and told apart by keyed digests all the same."""
    import sys

    monkeypatch.setitem(sys.modules, "test_hidden", sys.modules[__name__])
    guard = policed("tools: [{tool: pay, effect: unsafe, redact: [card], plan: {targets: 'test_hidden:targets'}}]\n")

    def pay(card: str, plan_token: str = "") -> str:
        return "paid"

    pay.__qualname__ = "pay"
    with surefoot.run("r"), pytest.raises(DryRun) as dry:
        surefoot.wrap(lambda: surefoot.tool()(pay)(CARD), guard=guard)()
    assert dry.value.plan["targets"] == ["the account of [redacted]"]
    assert leaks(tmp_path, guard) == []
