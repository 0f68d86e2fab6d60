"""Errors, doubts, holds, retries: what must happen when something fails, and what must not."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, Final

from surefoot_conformance.checks.requests import last
from surefoot_conformance.checks.transparent import GO
from surefoot_conformance.harness import Turn
from surefoot_conformance.lab import Lab, Play, Stage
from surefoot_conformance.table import Skip, check, equal, expect

if TYPE_CHECKING:
    from collections.abc import Sequence

BOTH: Final = ("sync", "async")
SECRET: Final = "sk-live-9f2b7c41d0e84a55"  # noqa: S105 - nobody's; it is looked for in the store


def raising(kind: type[BaseException], times: int = 10**6) -> Any:
    """Return a body that has its effect and raises, the first ``times`` times."""

    def body(stage: Stage, name: str, amount: int) -> str:
        stage.effects.add(name, amount)
        if stage.effects.count(name) <= times:
            raise kind("bank says no")
        return f"{name} {amount}"

    return body


@check("adapter", "L1", faces=("sync", "async", "stream", "astream"), variants=("escapes", "is shown"))
def an_ordinary_error_stays_one(lab: Lab) -> None:
    """What an unclassified tool raises reaches the caller, or the model, as it does bare."""
    shown = lab.variant == "is shown"
    if shown and not lab.harness.has_error_display:
        raise Skip("the framework does not show errors to a model")
    play = Play(script=[[("charge", 5)]], bodies={"charge": raising(ValueError)}, shows_errors=shown)
    bare = lab.bench("bare")
    plain, wrapped = bare.act(play, GO, bare=True), lab.act(play, GO)
    equal("the error", (wrapped.error, wrapped.message), (plain.error, plain.message))
    equal("what the model saw", lab.model.all(), bare.model.all())
    equal("effects", lab.effects.count("charge"), bare.effects.count("charge"))


@check("adapter", "L1", capability="has_error_display", faces=BOTH)
def an_unclassified_tool_that_raised_may_be_asked_for_again(lab: Lab) -> None:
    """A model that saw an error and asks again makes a new call: it runs. Code that calls again makes the same one: it does not."""
    play = Play(script=[[("charge", 5)], [("charge", 5)]], bodies={"charge": raising(ValueError, 1)}, shows_errors=True)
    lab.done(play, GO)
    equal("effects", lab.effects.count("charge"), 2 if lab.harness.has_model else 1)
    equal("the last answer is an error", "bank says no" in lab.seen()[-1], not lab.harness.has_model)


@check("adapter", "L1", capability="has_error_display", faces=BOTH, variants=("asked again", "held by a gate"))
def a_hold_cannot_be_eaten(lab: Lab) -> None:
    """AS-91: while an unsafe call is open no effect starts in its run, and no handler on the way keeps InDoubt from the caller."""
    from surefoot import Allow, Gate, Hold

    how = lab.variant

    class Waits(Gate):
        def check(self, call: Any) -> Any:
            return Hold("ask Maria") if call.tool == "charge" and how == "held by a gate" else Allow()

    if how == "asked again" and not lab.harness.has_model:
        raise Skip("no model asks again: code that calls again after an error makes the same request")
    script, gates = [[("charge", 5)], [("charge", 5)], [("other", 1)]], {"gates": [Waits()]}
    effects = {"charge": "unsafe", "other": "unsafe"}
    play = Play(script=script, bodies={"charge": raising(RuntimeError)}, effects=effects, shows_errors=True, guard=gates)
    ended = lab.act(play, GO)
    expect(ended.raised("InDoubt"), f"the hold was eaten: the turn ended with {ended.error or 'a result'}")
    again = lab.act(play, last(lab))
    expect(again.raised("InDoubt"), f"the held run went on: {again.error or 'a result'}")
    equal("effects", lab.effects.count("charge"), int(how == "asked again"))
    equal("effects of another tool", lab.effects.count("other"), 0)


@check("adapter", "L1", capability="has_error_display", faces=BOTH)
def what_did_not_happen_may_run_again(lab: Lab) -> None:
    """AS-22: a tool that raised NotCommitted is failed, not in doubt, and runs again when it is asked for, unsafe or not."""
    from surefoot import NotCommitted

    script = [[("charge", 5)], [("charge", 5)]]
    play = Play(script=script, bodies={"charge": raising(NotCommitted, 1)}, effects={"charge": "unsafe"}, shows_errors=True)
    lab.done(play, GO)
    equal("tries", lab.effects.count("charge"), 2)
    equal("calls in doubt", lab.states().count("in_doubt"), 0)


@check("adapter", "L1", faces=BOTH, variants=("TimeoutError", "ConnectionError"))
def an_exception_type_proves_nothing(lab: Lab) -> None:
    """R6: an unsafe tool that raised a timeout is not failed: resumed, it is in doubt, and it did not run again."""
    kind = {"TimeoutError": TimeoutError, "ConnectionError": ConnectionError}[lab.variant]
    play = Play(script=[[("charge", 5)]], bodies={"charge": raising(kind)}, effects={"charge": "unsafe"})
    expect(lab.act(play, GO).raised(lab.variant), "the tool's own error was lost")
    ended = lab.act(play, last(lab))
    expect(ended.raised("InDoubt"), f"nobody was told: {ended.error or 'a result'}")
    equal("effects", lab.effects.count("charge"), 1)
    expect("failed" not in lab.states(), "it was recorded as failed")


@check("adapter", "L1", capability="has_retries", faces=BOTH, variants=("unclassified", "unsafe", "idempotent", "read"))
def the_frameworks_own_retry_repeats_no_effect(lab: Lab) -> None:
    """A retry by the framework gets the recorded error without the body being run; read and idempotent tools run again."""
    declared = {} if lab.variant == "unclassified" else {"charge": lab.variant}
    play = Play(script=[[("charge", 5)]], bodies={"charge": raising(ConnectionError, 1)}, effects=declared, retries=1)
    ended = lab.act(play, GO)
    again = lab.variant in {"idempotent", "read"}
    equal("effects", lab.effects.count("charge"), 2 if again else 1)
    equal("it ended well", not ended.error, again)


@check("adapter", "L2", capability="has_model", faces=BOTH)
def asking_again_does_not_get_round_a_doubt(lab: Lab) -> None:
    """An unclassified call in doubt stays in doubt for a model that asks for the same again, in this run and in the next."""
    play = Play(script=[[("charge", 5)], [("charge", 5)]])
    lab.killed(play, GO, "after effect")
    lab.done(play, last(lab))
    expect(all("Outcome unknown" in text for text in lab.seen()), f"the model saw {lab.seen()}")
    lab.done(play, Turn("t", "try again", run="r2"))
    expect(all("Outcome unknown" in text for text in lab.seen()), f"in the next run the model saw {lab.seen()}")
    equal("effects", lab.effects.count("charge"), 1)


@check("adapter", "L2", faces=BOTH, variants=("committed", "failed", "probe happened", "probe will not", "probe not seen"))
def a_doubt_is_settled(lab: Lab) -> None:
    """Settled by hand or by a probe, a held run goes on: with the value that was given, or by running the call again."""
    import surefoot
    from surefoot import ToolRule

    answers = {
        "probe happened": lambda _call: surefoot.happened("found"),
        "probe will not": lambda _call: surefoot.will_not_happen(),
        "probe not seen": lambda _call: surefoot.not_seen(),
    }
    rule = ToolRule(effect="unsafe", probe=answers.get(lab.variant))  # type: ignore[arg-type]
    play = Play(script=[[("charge", 5)]], guard={"tools": {"charge": rule}})
    lab.killed(play, GO, "after intent")
    if not lab.variant.startswith("probe"):
        lab.act(play, last(lab))
        (row,) = [row for row in lab.calls() if row["state"] == "in_doubt"]
        given: Any = {"committed": "found"} if lab.variant == "committed" else {"failed": True}
        lab.look(lambda guard: guard.calls.settle(row["id"], by="maria", **given).settled_by)
    how = lab.variant
    ended = lab.act(play, last(lab))
    if how == "probe not seen":
        expect(ended.raised("InDoubt"), f"what nobody saw was taken for settled: {ended.error or 'a result'}")
        equal("effects", lab.effects.count("charge"), 0)
        return
    expect(not ended.error, f"the settled run raised {ended.error}: {ended.message}")
    happened = how in {"committed", "probe happened"}
    equal("effects", lab.effects.count("charge"), 0 if happened else 1)
    equal("the model saw", lab.seen(), ["found" if happened else "charge 5"])


class _RejectsOnce:
    """A verifier that rejects the first attempt with a hint."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def __call__(self, output: Any) -> Any:
        from surefoot import Verdict

        self._lab.events.add("judged", output.attempt)
        return Verdict.failed("INCOMPLETE", "say it in French") if output.attempt == 1 else Verdict.passed()


def _verified(lab: Lab, script: Any, effects: dict[str, str] | None = None) -> Play:
    from surefoot import StepRule

    steps = {"worker": StepRule(goal="pay", verifier=_RejectsOnce(lab))}
    return Play(script=script, bodies={"charge": Stage.effect}, shape="nested", effects=effects or {}, guard={"steps": steps})


@check("adapter", "L1", capability="has_steps", faces=("sync", "async", "stream", "astream"))
def a_rejected_step_is_tried_again_with_the_hint(lab: Lab) -> None:
    """AS-52: the next attempt's model is told the hint, and the effects of the rejected attempt are not repeated."""
    lab.done(_verified(lab, [[("charge", 5)]]), GO)
    equal("attempts judged", [entry[1] for entry in lab.events.all() if entry[0] == "judged"], [1, 2])
    said = [words for _, _, words in lab.model.all()]
    expect("French" not in said[0], "the hint was there before the rejection")
    expect("French" in said[-1], f"the hint did not reach the model: it was told {said[-1]!r}")
    equal("effects", lab.effects.count("charge"), 1)
    equal("the model saw", lab.seen(), ["charge 5"])


@check("adapter", "L1", capability="has_steps", faces=BOTH)
def an_attempt_that_never_passes_commits_nothing(lab: Lab) -> None:
    """A step that no attempt of passes raises VerificationFailed; nothing of it is committed."""
    from surefoot import Retry, StepRule, Verdict

    rule = StepRule(verifier=lambda _output: Verdict.failed("INCOMPLETE", "no"), retry=Retry(max_attempts=2))
    play = Play(script=[[("charge", 5)]], shape="nested", guard={"steps": {"worker": rule}})
    ended = lab.act(play, GO)
    expect(ended.raised("VerificationFailed"), f"it ended with {ended.error or 'a result'}")
    committed = lab.look(lambda guard: [found.path for run in guard.runs.list() for found in guard.runs.checkpoints(run.run_id)])
    equal("committed steps named worker", [path for path in committed if path.rpartition("/")[2].startswith("worker#")], [])
    equal("effects", lab.effects.count("charge"), 1)


_BROKEN: Final = ("raises", "returns None", "returns words", "raises a timeout", "hangs", "hangs as a coroutine")
_HANGS: Final = 20.0
"""Seconds after which what hangs would say yes: far more than it is given."""


@check("adapter", "L1", capability="has_steps", faces=BOTH, variants=_BROKEN)
def a_broken_verifier_passes_nothing(lab: Lab) -> None:
    """AS-51: a verifier that raises, hangs or returns junk means not passed."""
    from surefoot import Retry, StepRule, Verdict

    def broken(_output: Any) -> Any:
        if lab.variant.startswith("raises"):
            raise TimeoutError("judge") if "timeout" in lab.variant else ValueError("judge")
        if lab.variant == "hangs":
            threading.Event().wait(_HANGS)
            return Verdict.passed()
        return None if lab.variant == "returns None" else "looks good to me"

    async def hanging(_output: Any) -> Any:
        await asyncio.sleep(_HANGS)
        return Verdict.passed()

    broken.timeout = hanging.timeout = 0.1  # type: ignore[attr-defined]
    broken = hanging if lab.variant == "hangs as a coroutine" else broken
    play = Play(
        script=[[("charge", 5)]], shape="nested", guard={"steps": {"worker": StepRule(verifier=broken, retry=Retry(max_attempts=1))}}
    )
    ended = lab.act(play, GO)
    expect(ended.raised("VerificationFailed"), f"it ended with {ended.error or 'a result'}")


@check("adapter", "L1", capability="has_steps", faces=BOTH)
def a_verifier_that_changes_what_it_judged_passes_nothing(lab: Lab) -> None:
    """I13, I14: a verifier that says PASS and changed the output meanwhile has passed something else: nothing is committed."""
    from surefoot import Retry, StepRule, Verdict

    def meddles(judged: Any) -> Any:
        if isinstance(judged.output, dict | list):
            judged.output.clear()
            lab.events.add("changed")
        return Verdict.passed()

    rule = StepRule(verifier=meddles, retry=Retry(max_attempts=1))
    ended = lab.act(Play(script=[[("charge", 5)]], shape="nested", guard={"steps": {"worker": rule}}), GO)
    if not lab.events.count("changed"):
        raise Skip("the output of a step is no dict and no list, which a verifier could change")
    expect(ended.raised("VerificationFailed"), f"it ended with {ended.error or 'a result'}")
    equal("effects", lab.effects.count("charge"), 1)


@check("adapter", "L1", capability="has_steps", faces=BOTH, variants=("unclassified", "unsafe"))
def a_retry_that_asks_for_something_else_is_noticed(lab: Lab) -> None:
    """AS-17: an attempt that asks for another amount: an unsafe tool holds the run, an unclassified one's model is told, code is not."""

    def script(given: int, _seen: Sequence[str], said: str) -> Sequence[tuple[str, int]]:
        return ([("charge", 6 if "French" in said else 5)]) if given == 0 else []

    unsafe, model = lab.variant == "unsafe", lab.harness.has_model
    ended = lab.act(_verified(lab, script, {"charge": "unsafe"} if unsafe else {}), GO)
    expect(ended.raised("InDoubt") == unsafe, f"it ended with {ended.error or 'a result'}: {ended.message}")
    equal("effects", lab.effects.all(), [["charge", 5]] if unsafe or model else [["charge", 5], ["charge", 6]])
    if not unsafe:
        expect(lab.events.count("call.drift_told" if model else "call.drift_allowed"), "no event says so")
        equal("the model was told", "earlier attempt" in "".join(lab.seen()), model)


@check("adapter", "L1", capability="has_people", faces=BOTH)
def a_person_is_asked_while_a_sibling_is_done(lab: Lab) -> None:
    """AS-01: a tool asks a person beside a charge; answered in a new process, the charge is not repeated, and its answer is the first."""
    play = Play(script=[[("charge", 5), ("ask", 1)]], bodies={"ask": Stage.person})
    lab.done(play, GO)
    equal("effects before the answer", lab.counted(), {"charge": 1})
    lab.done(play, Turn("t", answer="yes", run="r1"))
    equal("effects", lab.counted(), {"ask": 1, "charge": 1})
    equal("the model saw", lab.seen(), ["charge 5", "ask 1: yes"])


@check("adapter", "L1", capability="has_people", faces=BOTH)
def each_question_gets_its_own_answer(lab: Lab) -> None:
    """AS-95: of two tools that ask, each is given its own answer, and a third call not the one that a replayed one consumed."""
    play = Play(script=[[("ask_a", 1), ("ask_b", 2)], [("ask_c", 3)]], bodies=dict.fromkeys(("ask_a", "ask_b", "ask_c"), Stage.person))
    lab.done(play, GO)
    answered: set[str] = set()
    for number in range(3):
        open_ = _waiting(lab, answered)
        lab.done(play, Turn("t", answer=f"answer {number}", run="r1"))
        answered |= {name for name, _ in lab.effects.all()}
        equal("questions answered", len(answered), number + 1)
        expect(open_, "nobody was asked")
    texts = [*lab.seen()]
    equal("different answers", len({text.partition(": ")[2] for text in texts}), 3)
    equal("effects", lab.counted(), {"ask_a": 1, "ask_b": 1, "ask_c": 1})


def _waiting(lab: Lab, answered: set[str]) -> bool:
    return any(row["state"] == "suspended" and row["tool"] not in answered for row in lab.calls())


@check("adapter", "L1", faces=BOTH, variants=("raises", "returns None", "returns words", "hangs"))
def a_broken_gate_denies(lab: Lab) -> None:
    """AS-46: a policy that raises, hangs or returns junk denies every call but a declared read, and says so."""
    from surefoot import Allow, Gate

    class Broken(Gate):
        timeout = 0.1

        def check(self, call: Any) -> Any:
            if lab.variant == "raises":
                raise ValueError(call.tool)
            if lab.variant == "hangs":
                threading.Event().wait(_HANGS)
                return Allow()
            return None if lab.variant == "returns None" else "go ahead"

    play = Play(script=[[("charge", 5)], [("look", 1)]], effects={"charge": "unsafe", "look": "read"}, guard={"gates": [Broken()]})
    ended = lab.act(play, GO)
    told = f"{ended.message} {lab.seen()}"
    expect("policy_unavailable" in told, f"nobody was told: {told}")
    equal("effects of the unsafe tool", lab.effects.count("charge"), 0)
    if lab.harness.has_model:
        equal("effects of the read", lab.effects.count("look"), 1)


@check("adapter", "L1", faces=("sync", "async", "stream", "astream"))
def a_gate_is_asked_once_and_what_it_was_shown_is_what_runs(lab: Lab) -> None:
    """I14, AS-48: a gate sees every call once, before its body; nothing that it does to what it was shown changes what runs."""
    from surefoot import Allow, Gate

    class Greedy(Gate):
        def check(self, call: Any) -> Any:
            lab.events.add("asked", call.arguments["amount"], lab.effects.count("charge"))
            with contextlib.suppress(TypeError):  # it may well be read-only
                call.arguments["amount"] = 820_000
            return Allow()

    lab.done(Play(script=[[("charge", 5)]], guard={"gates": [Greedy()]}), GO)
    equal("times asked", [entry[1:] for entry in lab.events.all() if entry[0] == "asked"], [[5, 0]])
    equal("effects", lab.effects.all(), [["charge", 5]])


@check("adapter", "L1", faces=BOTH, variants=("deny", "hold"))
def a_gate_that_says_no_is_obeyed(lab: Lab) -> None:
    """A denied call does not run and its model is told why; one that must wait for somebody holds the run."""
    from surefoot import Deny, Gate, Hold

    class No(Gate):
        def check(self, call: Any) -> Any:
            return Deny(f"not {call.tool}") if lab.variant == "deny" else Hold("ask Maria")

    ended = lab.act(Play(script=[[("charge", 5)]], guard={"gates": [No()]}), GO)
    equal("effects", lab.effects.count("charge"), 0)
    if lab.variant == "hold":
        expect(ended.raised("InDoubt"), f"the run was not held: {ended.error or 'a result'}")
    else:
        expect("not charge" in f"{ended.message} {lab.seen()}", f"nobody was told: {ended.message} {lab.seen()}")


@check("adapter", "L1", faces=BOTH)
def a_listener_that_raises_changes_nothing(lab: Lab) -> None:
    """I16: an event listener that raises stops nothing and hides nothing."""
    import surefoot

    class Loud:
        @surefoot.hookimpl
        def surefoot_event(self, event: Any) -> None:
            raise RuntimeError(event.type)

    lab.done(Play(script=[[("charge", 5)]], guard={"plugins": [Loud()]}), GO)
    equal("effects", lab.effects.count("charge"), 1)
    equal("events", lab.events.count("call.committed", "charge"), 1)


@check("adapter", "L1", faces=BOTH, variants=("result", "error", "killed"))
def a_secret_does_not_reach_the_store(lab: Lab) -> None:
    """AS-67, I23: a redacted text is in no file of the store: not from a result, not from an error, not after a kill."""
    import surefoot

    class Censor:
        @surefoot.hookimpl
        def surefoot_redact(self, text: str) -> str:
            return text.replace(SECRET, "[redacted]")

    def body(stage: Stage, name: str, amount: int) -> str:
        stage.effects.add(name, amount)
        if lab.variant == "error":
            raise ValueError(f"bad token {SECRET}")
        return f"token {SECRET}"

    play = Play(
        script=[[("charge", 5)]], bodies={"charge": body}, guard={"plugins": [Censor()]}, shows_errors=lab.harness.has_error_display
    )
    if lab.variant == "killed":
        lab.killed(play, GO, "after outcome stored")
    else:
        lab.act(play, GO)
    equal("effects", lab.effects.count("charge"), 1)
    found = [path.name for path in lab.folder.glob("surefoot.db*") if SECRET.encode() in path.read_bytes()]
    equal("files of the store that hold it", found, [])


@check("adapter", "L1", faces=BOTH)
def a_budget_is_not_exceeded(lab: Lab) -> None:
    """I12: of three calls with a budget of two, two run; resumed, what is replayed costs nothing, and the third still does not run."""
    from surefoot import Budget

    play = Play(script=[[("charge", 1)], [("charge", 2)], [("charge", 3)]], guard={"budget": Budget(calls=2)})
    ended = lab.act(play, GO)
    expect(ended.raised("BudgetExceeded"), f"it ended with {ended.error or 'a result'}: {ended.message}")
    expect(lab.act(play, last(lab)).raised("BudgetExceeded"), "resumed, it was exceeded")
    equal("effects", lab.effects.all(), [["charge", 1], ["charge", 2]])


@check("adapter", "L3", capability="has_cancellation", faces=("async", "astream"))
def cancellation_propagates_and_leaves_a_doubt(lab: Lab) -> None:
    """I11: cancelled inside a body the turn ends with CancelledError, the call is in doubt, and it is not run again."""

    def waits(stage: Stage, name: str, amount: int) -> Any:
        async def coro() -> str:
            stage.effects.add(name, amount)
            stage.entered.set()
            await asyncio.Event().wait()
            return "never"

        return coro()

    play = Play(script=[[("charge", 5)]], bodies={"charge": waits})

    def work() -> str:
        stage = Stage(lab, play, kill=None, nth=1, bare=False)

        async def whole() -> str:
            task = asyncio.create_task(lab.coro(lab.built(stage), GO))
            while not stage.entered.is_set():
                await asyncio.sleep(0.002)
                expect(not task.done(), "the turn ended before the body was entered")
            task.cancel()
            await asyncio.wait([task])
            return "cancelled" if task.cancelled() else f"{task.exception()!r}" if task.exception() else "a result"

        return asyncio.run(whole())

    equal("the turn ended with", lab.here(work), "cancelled")
    equal("the call", lab.states(), ["in_doubt"])
    other = Play(script=[[("charge", 5)]], bodies={"charge": Stage.effect})
    lab.act(other, last(lab))
    equal("effects", lab.effects.count("charge"), 1)


@check("adapter", "L3", capability="has_worker_threads", faces=("async", "astream"))
def a_late_landing_is_waited_for(lab: Lab) -> None:
    """R10, AS-43: a caller gives up on a plain tool, which goes on; asked for again, it is waited for, not run a second time."""

    def slow(stage: Stage, name: str, amount: int) -> str:
        stage.effects.add(name, amount)
        stage.entered.set()
        stage.released.wait(_HANGS)
        return f"{name} {amount}"

    play = Play(script=[[("charge", 5)]], bodies={"charge": slow}, plain_tools=True)

    def work() -> None:
        stage = Stage(lab, play, kill=None, nth=1, bare=False)

        async def whole() -> None:
            target = lab.built(stage)
            task = asyncio.create_task(lab.coro(target, GO))
            while not stage.entered.is_set():
                await asyncio.sleep(0.002)
                expect(not task.done(), "the turn ended before the body was entered")
            task.cancel()
            await asyncio.wait([task])
            again = asyncio.create_task(lab.coro(target, last(lab)))
            await asyncio.wait([again], timeout=0.05)
            stage.released.set()
            await again

        asyncio.run(whole())

    lab.here(work)
    equal("effects", lab.effects.count("charge"), 1)
    equal("the model saw", lab.seen(), ["charge 5"])
    equal("the call", lab.states(), ["committed"])
