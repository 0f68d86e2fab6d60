"""Killed with SIGKILL at every point, and resumed in another process. Effects are counted in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from surefoot_conformance.checks.transparent import GO
from surefoot_conformance.harness import Turn
from surefoot_conformance.lab import POINTS, Lab, Play
from surefoot_conformance.table import FACES, check, equal, expect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surefoot_conformance.harness import Harness

RESULTS: Final[dict[str, Any]] = {
    "number": 7,
    "fraction": 0.1,
    "boolean": True,
    "nothing": None,
    "empty": "",
    "list": [1, "a", None],
    "tuple": (1, (2, 3)),
    "object": {"b": 1, "a": {"c": [2, 3]}},
    "accents": "e\u0301\u00e9\U0001f600",
}
IN_THE_BODY: Final = {"after intent", "after effect"}


def resumes(harness: Harness) -> Sequence[str]:
    """Return how a harness can resume: it goes on, or it is given the same input."""
    return ("continue", "same input") if harness.has_checkpoints else ("same input",)


def resumes_in_modes(harness: Harness) -> Sequence[str]:
    """Return every way to resume, in every mode but the usual one."""
    return [f"{resume}; {mode}" for mode in harness.modes[1:] for resume in resumes(harness)]


def charge_once(lab: Lab, effect: str) -> None:
    """Kill a charge at the cell's point, resume it, and judge what happened by the effect class."""
    mode = lab.variant.partition("; ")[2]
    play = Play(script=[[("charge", 5)]], effects={"charge": effect} if effect != "unclassified" else {})
    turn = Turn(GO.thread, GO.input, mode=mode, run=GO.run)
    lab.killed(play, turn, lab.point)
    before = lab.effects.count("charge")
    ended = lab.act(play, lab.again(turn))
    count, doubt = lab.effects.count("charge"), lab.states().count("in_doubt")
    expect(count <= 1, f"the effect happened {count} times")
    expect(not ended.killed, "the resumed process died")
    if lab.point not in IN_THE_BODY:
        expect(not ended.error, f"the resumed turn raised {ended.error}: {ended.message}")
        equal("effects", count, 1)
        equal("the model saw", lab.seen(), ["charge 5"])
        equal("calls in doubt", doubt, 0)
        return
    equal("effects", count, before)
    equal("calls in doubt", doubt, 1)
    if effect == "unsafe" or not lab.harness.has_model:
        expect(ended.raised("InDoubt"), f"nobody was told: the turn ended with {ended.error or 'a result'} {ended.message}")
        equal("held runs", sum(bool(run["hold"]) for run in lab.runs()), int(effect == "unsafe"))
    else:
        expect(not ended.error, f"an unclassified tool stopped the run: {ended.error}: {ended.message}")
        expect("Outcome unknown" in "".join(lab.seen()), f"the model was not told: it saw {lab.seen()}")


@check("adapter", "L2", points=POINTS, faces=FACES, variants=resumes)
def an_unclassified_call_happens_at_most_once(lab: Lab) -> None:
    """AS-03: killed at any point and resumed, an unclassified call happened at most once, and the run goes on."""
    charge_once(lab, "unclassified")


@check("adapter", "L2", points=POINTS, faces=FACES, variants=resumes)
def an_unsafe_call_happens_at_most_once(lab: Lab) -> None:
    """AS-03: killed at any point and resumed, an unsafe call happened exactly once, or is in doubt and holds the run."""
    charge_once(lab, "unsafe")


@check("adapter", "L2", points=POINTS, faces=FACES, variants=resumes_in_modes)
def a_call_happens_at_most_once_in_every_mode(lab: Lab) -> None:
    """AS-89: the same in every way that the framework keeps its own state in."""
    charge_once(lab, "unclassified")


@check("adapter", "L2", points=POINTS, faces=FACES)
def an_idempotent_call_runs_again(lab: Lab) -> None:
    """A tool declared idempotent is run again after a kill in its body, and never more than once after its outcome."""
    play = Play(script=[[("charge", 5)]], effects={"charge": "idempotent"})
    lab.killed(play, GO, lab.point)
    lab.variant = "continue" if lab.harness.has_checkpoints else "same input"
    lab.done(play, lab.again(GO))
    equal("effects", lab.effects.count("charge"), 2 if lab.point == "after effect" else 1)
    equal("the model saw", lab.seen(), ["charge 5"])


@check("adapter", "L2", faces=("sync", "async"), variants=list(RESULTS))
def a_replayed_result_is_the_one_that_was_returned(lab: Lab) -> None:
    """I5: whatever a tool returned, a model that is given it from the record sees what it would have seen without a kill."""
    value = RESULTS[lab.variant]
    play = Play(script=[[("charge", 5)]], returns=lambda _text: value)
    bare = lab.bench("bare")
    plain = bare.done(play, GO, bare=True)
    lab.killed(play, GO, "after outcome stored")
    lab.variant = "continue" if lab.harness.has_checkpoints else "same input"
    again = lab.done(play, lab.again(GO))
    equal("what the model saw", lab.seen(), bare.seen())
    equal("effects", lab.effects.count("charge"), 1)
    if not lab.harness.has_checkpoints:
        equal("what was returned", again.value, plain.value)
