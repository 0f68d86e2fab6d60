"""What is one request, and what is another one: loops, twins, runs, nesting, identity."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from surefoot_conformance.checks.crash import resumes_in_modes
from surefoot_conformance.checks.transparent import GO
from surefoot_conformance.harness import Turn
from surefoot_conformance.lab import Lab, Play, Stage
from surefoot_conformance.table import FACES, check, equal, expect

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOP: Final = Play(script=[[("charge", 5)], [("charge", 5)]])
MORE: Final = Turn("t", "once more", run="r2")
RECORDED: Final = ("after outcome stored", "after framework checkpoint")


def last(lab: Lab) -> Turn:
    """Return the turn that resumes the usual one in the usual way."""
    lab.variant = "continue" if lab.harness.has_checkpoints else "same input"
    return lab.again(GO)


@check("adapter", "L1", faces=("sync", "async"))
def two_runs_of_a_thread_are_two_requests(lab: Lab) -> None:
    """AS-88: the same call with the same arguments in two runs of one thread happens twice."""
    play = Play(script=[[("charge", 5)]])
    lab.done(play, GO)
    lab.done(play, MORE)
    equal("effects", lab.effects.count("charge"), 2)
    equal("runs", len(lab.runs()), 2)


@check("adapter", "L2", faces=("sync", "async"))
def two_threads_are_two_conversations(lab: Lab) -> None:
    """A run that was killed is its own thread's: the same input in another thread is another run, with an effect of its own."""
    play = Play(script=[[("charge", 5)]])
    lab.killed(play, GO, "after outcome stored")
    lab.done(play, dataclasses.replace(GO, thread="another", run="r2"))
    equal("effects after the other thread's run", lab.effects.count("charge"), 2)
    lab.done(play, last(lab))
    equal("effects", lab.effects.count("charge"), 2)
    equal("runs", [run["status"] for run in lab.runs()], ["completed"] * 2)


@check("adapter", "L1", faces=("sync", "async"))
def a_call_without_its_business_key_does_not_run(lab: Lab) -> None:
    """A call that the guard refuses, because an argument of its declared key is missing, is refused: it never runs unguarded."""
    from surefoot import ToolRule

    rule = ToolRule(effect="unsafe", key=["invoice"])
    ended = lab.act(Play(script=[[("charge", 5)]], guard={"tools": {"charge": rule}}), GO)
    equal("effects", lab.effects.count("charge"), 0)
    expect(ended.error, "nobody was told")


@check("adapter", "L2", points=RECORDED, faces=FACES, variants=("1", "2"))
def iterations_of_a_loop_are_two_requests(lab: Lab) -> None:
    """AS-90: the same call in two iterations, killed after either and resumed, happens twice and each is answered."""
    nth = int(lab.variant)
    lab.killed(LOOP, GO, lab.point, nth=nth)
    lab.done(LOOP, last(lab))
    equal("effects", lab.effects.count("charge"), 2)
    equal("the model saw", lab.seen(), ["charge 5", "charge 5"])


@check("adapter", "L2", points=RECORDED, faces=("sync",), variants=resumes_in_modes)
def iterations_are_counted_by_the_framework(lab: Lab) -> None:
    """AS-90: where the framework is behind what is committed, a loop's second iteration is still not the first."""
    _, _, mode = lab.variant.partition("; ")
    turn = Turn(GO.thread, GO.input, mode=mode, run=GO.run)
    lab.killed(LOOP, turn, lab.point, nth=2)
    lab.done(LOOP, lab.again(turn))
    equal("effects", lab.effects.count("charge"), 2)
    equal("the model saw", lab.seen(), ["charge 5", "charge 5"])


@check("adapter", "L2", faces=FACES, variants=("1", "2"))
def twins_are_two_requests(lab: Lab) -> None:
    """Two equal calls in one reply, killed after the first or the second is recorded: each happened at most once."""
    twins = Play(script=[[("charge", 5), ("charge", 5)]])
    lab.killed(twins, GO, "after outcome stored", nth=int(lab.variant))
    both = lab.variant == "2"
    lab.act(twins, last(lab))
    count = lab.effects.count("charge")
    expect(count <= 2, f"two requests had {count} effects")
    if both:
        equal("effects", count, 2)
        equal("the model saw", lab.seen(), ["charge 5", "charge 5"])


@check("adapter", "L2", capability="has_parallel_calls", faces=("sync", "async"))
def a_finished_sibling_is_not_repeated(lab: Lab) -> None:
    """AS-01: killed in one of two parallel calls, the other one is not run again, and its answer is the first one."""

    def dies(stage: Stage, name: str, amount: int) -> Any:
        def then() -> str:
            if stage.effects.count(name) == 0:
                stage.effects.add(name, amount)
                stage.at("in the sibling")
            return f"lived {amount}"

        return stage.after("charge", then)

    play = Play(script=[[("charge", 5), ("dies", 1)]], bodies={"dies": dies}, effects={"dies": "idempotent"})
    lab.killed(play, GO, "in the sibling")
    lab.done(play, last(lab))
    equal("effects", lab.counted(), {"charge": 1, "dies": 1})
    equal("the model saw", lab.seen(), ["charge 5", "lived 1"])


@check("adapter", "L1", capability="has_parallel_calls", faces=("sync", "async"))
def a_sibling_that_fails_takes_nothing_along(lab: Lab) -> None:
    """AS-02: a call whose sibling raised is recorded; resumed, it is answered from the record, and the sibling runs again."""

    def fails(stage: Stage, name: str, amount: int) -> Any:
        def then() -> str:
            stage.effects.add(name, amount)
            if stage.effects.count(name) == 1:
                raise RuntimeError("once")
            return f"{name} {amount}"

        return stage.after("charge", then)

    play = Play(script=[[("charge", 5), ("fails", 1)]], bodies={"fails": fails}, effects={"fails": "idempotent"})
    first = lab.act(play, GO)
    expect(first.raised("RuntimeError"), f"the sibling's error was lost: {first.error} {first.message}")
    lab.done(play, last(lab))
    equal("effects", lab.counted(), {"charge": 1, "fails": 2})
    equal("the model saw", lab.seen(), ["charge 5", "fails 1"])


def _shaped(lab: Lab, shape: str, play: Play = LOOP) -> None:
    """Kill a shape's second charge when it is recorded, and its first; resumed, there are two effects."""
    shaped = dataclasses.replace(play, shape=shape)
    lab.killed(shaped, GO, "after outcome stored", nth=int(lab.variant))
    lab.done(shaped, last(lab))
    equal("effects", lab.effects.count("charge"), 2)
    equal("calls in doubt", lab.states().count("in_doubt"), 0)


@check("adapter", "L2", capability="has_nesting", faces=FACES, variants=("1", "2"))
def an_agent_inside_a_workflow_is_guarded(lab: Lab) -> None:
    """AS-90: an agent as a step of another workflow: each request happens once, also killed and resumed."""
    _shaped(lab, "nested")


@check("adapter", "L2", capability="has_hand_off", faces=FACES, variants=("1", "2"))
def a_hand_over_and_back_is_two_visits(lab: Lab) -> None:
    """AS-97: A → B → A: the same charge on both visits happens twice, also killed and resumed."""
    _shaped(lab, "hand_off", Play(script=[[("charge", 5)]]))


@check("adapter", "L2", capability="has_fan_out", faces=FACES, variants=("1", "2"))
def equal_branches_are_two(lab: Lab) -> None:
    """AS-96: two parallel branches with equal inputs that charge: two effects, also killed after one, and none in doubt."""

    def one_by_one(stage: Stage, name: str, amount: int) -> Any:
        with stage.turns:
            return stage.effect(name, amount)

    play = Play(script=[], bodies={"charge": one_by_one}, shape="fan_out", effects={"charge": "idempotent"})
    lab.killed(play, GO, "after outcome stored", nth=int(lab.variant))
    begun, recorded = lab.effects.count("charge"), _committed(lab)
    expect(recorded >= int(lab.variant), f"{recorded} outcomes outlived the process that was killed after {lab.variant}")
    lab.done(play, last(lab))
    equal("committed calls", _committed(lab), 2)
    # Declared idempotent: a call without an outcome runs once more, and none other does. The other branch may have had its effect
    # when the process died, so that one kill may leave two effects and one outcome, and three effects in the end.
    happened, allowed = lab.effects.count("charge"), begun + 2 - recorded
    expect(2 <= happened <= allowed, f"{happened} effects, {begun} of them and {recorded} outcomes before the kill")


def _committed(lab: Lab) -> int:
    return sum(1 for row in lab.calls() if row["state"] == "committed")


@check("adapter", "L2", capability="has_fan_out", faces=FACES)
def a_failed_branch_is_not_given_the_others_record(lab: Lab) -> None:
    """AS-96: of two equal branches one charged and one failed before it did; resumed, the failed one charges too."""

    def second_fails(stage: Stage, name: str, amount: int) -> Any:
        with stage.turns:
            from surefoot import NotCommitted

            if stage.lab.events.count("call.failed") == 0:
                raise NotCommitted("before it charged")
            return stage.effect(name, amount)

    play = Play(script=[], bodies={"charge": second_fails}, shape="fan_out")
    first = lab.act(play, GO)
    expect(first.raised("NotCommitted"), f"the branch did not fail: {first.error}")
    lab.done(play, last(lab))
    equal("effects", lab.effects.count("charge"), 2)


@check("adapter", "L2", capability="has_delegation", faces=("sync", "async"), variants=("1", "2"))
def an_agent_inside_a_tool_is_entered_again(lab: Lab) -> None:
    """AS-94: a tool that runs a guarded agent is entered again after a kill; the calls inside it are not repeated."""
    inner = dataclasses.replace(LOOP, inside=True)

    def delegate(stage: Stage, _name: str, amount: int) -> Any:
        stage.effects.add("delegate", amount)
        target, turn = stage.inside(inner), Turn(None, "inner")
        if not stage.lab.is_async:
            stage.lab.plain(target, turn)
            return "delegated"

        async def coro() -> str:
            await stage.lab.coro(target, turn)
            return "delegated"

        return coro()

    def script(given: int, _seen: Sequence[str], said: str) -> Sequence[tuple[str, int]]:
        if said == "inner":
            return [("charge", 5)] if given < 2 else []
        return [("delegate", 1)] if given == 0 else []

    play = Play(script=script, bodies={"delegate": delegate})
    lab.killed(play, GO, "after outcome stored", nth=int(lab.variant))
    lab.done(play, last(lab))
    equal("effects", lab.counted(), {"charge": 2, "delegate": 2})
    equal(
        "the outer call", [(row["state"], row["effect"]) for row in lab.calls() if row["tool"] == "delegate"], [("committed", "composite")]
    )


@check("adapter", "L2", faces=("sync", "async"))
def the_tool_is_given_one_key_for_one_call(lab: Lab) -> None:
    """AS-86: every try of a call hands the tool the same idempotency key, over processes; another call another one."""

    def keyed(stage: Stage, name: str, amount: int) -> str:
        import surefoot

        call = surefoot.current_call()
        stage.effects.add(name, amount, call.idempotency_key if call else None)
        stage.at("after effect")
        return f"{name} {amount}"

    play = Play(script=[[("charge", 5)], [("charge", 5)]], bodies={"charge": keyed}, effects={"charge": "idempotent"})
    lab.killed(play, GO, "after effect")
    lab.done(play, last(lab))
    keys = [key for _, _, key in lab.effects.all()]
    expect(all(keys), f"the tool was given no key: {keys}")
    equal("tries, and keys of them", (len(keys), len(set(keys)), keys[0] == keys[1]), (3, 2, True))


@check("adapter", "L2", faces=("sync", "async"))
def a_resumed_run_is_the_same_run(lab: Lab) -> None:
    """Killed and resumed, a run is the run that it was; another input closes it as abandoned and begins the next."""
    play = Play(script=[[("charge", 5)]])
    lab.killed(play, GO, "after outcome stored")
    before = [run["id"] for run in lab.runs()]
    lab.done(play, last(lab))
    equal("the runs", [(run["id"], run["status"]) for run in lab.runs()], [(name, "completed") for name in before])
    other = Turn("u", "go", run="r3")
    lab.killed(play, other, "after outcome stored")
    lab.act(play, Turn("u", "something else", run="r4"))
    equal("runs of a thread", sorted(run["status"] for run in lab.runs()), ["abandoned", "completed", "completed"])


@check("adapter", "L1", faces=("sync", "async"))
def what_a_run_left_undelivered_is_given_once(lab: Lab) -> None:
    """AS-98: a run dies after a payment, the user tries again: the first equal request gets the recorded value, the next one runs."""

    def script(given: int, _seen: Sequence[str], said: str) -> Sequence[tuple[str, int]]:
        asked = [[("charge", 5), ("fails", 1)]] if said == GO.input else [[("charge", 5)], [("charge", 5)]]
        return asked[given] if given < len(asked) else []

    def fails(stage: Stage, _name: str, _amount: int) -> Any:
        def then() -> str:
            raise RuntimeError("sibling")

        return stage.after("charge", then)

    play = Play(script=script, bodies={"fails": fails, "charge": Stage.effect})
    expect(lab.act(play, GO).raised("RuntimeError"), "the first run did not fail")
    lab.done(play, Turn("t", "did it work? try again", run="r2"))
    equal("the model saw", lab.seen(), ["charge 5", "charge 5"])
    equal("effects", lab.effects.count("charge"), 2)


@check("adapter", "L1", faces=("sync", "async"))
def a_business_key_is_one_effect_over_runs(lab: Lab) -> None:
    """A call with a declared business key happens once for its tenant, whatever thread and run asks for it."""
    from surefoot import ToolRule

    play = Play(script=[[("charge", 5)]], guard={"tools": {"charge": ToolRule(effect="unsafe", key=["amount"])}})
    lab.done(play, GO)
    lab.done(play, Turn("other", "go", run="r9"))
    equal("the model saw", lab.seen(), ["charge 5"])
    equal("effects", lab.effects.count("charge"), 1)


@check("adapter", "L1", capability="has_touch")
def the_frameworks_own_count_is_no_identity(lab: Lab) -> None:
    """AS-90: a framework that counts a step more between a question and its answer is not asking for other calls."""
    play = Play(script=[[("charge", 5), ("ask", 1)]], bodies={"ask": Stage.person})
    lab.done(play, GO)
    lab.here(lambda: lab.harness.touch(lab.built(Stage(lab, play, kill=None, nth=1, bare=False)), GO))
    lab.done(play, Turn("t"))
    lab.done(play, Turn("t", answer="yes"))
    equal("effects", lab.counted(), {"ask": 1, "charge": 1})
    equal("the model saw", lab.seen(), ["charge 5", "ask 1: yes"])
