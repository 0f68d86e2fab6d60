"""Where nothing fails, a wrapped agent is the agent; and the harness itself does what it says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from surefoot_conformance.harness import Site, Turn
from surefoot_conformance.lab import Lab, Play, Stage
from surefoot_conformance.table import FACES, Fault, check, equal, expect

GO: Final = Turn("t", " Go, \u00e9 ", run="r1")
PLAYS: Final = {
    "one call": Play(script=[[("charge", 5)]]),
    "a loop": Play(script=[[("look", 1)], [("charge", 5)], [("look", 2)]]),
    "parallel": Play(script=[[("charge", 5), ("look", 1), ("mail", 2)]]),
    "twins": Play(script=[[("charge", 5), ("charge", 5)]]),
    "no call": Play(script=[]),
}
ANSWERS: Final = {
    "one call": ["charge 5"],
    "a loop": ["look 1", "charge 5", "look 2"],
    "parallel": ["charge 5", "look 1", "mail 2"],
    "twins": ["charge 5", "charge 5"],
    "no call": [],
}


@check("adapter", "harness", faces=FACES, variants=list(PLAYS))
def the_harness_plays_the_script(lab: Lab) -> None:
    """Bare, the harness runs each call of the script once, and gives the model the answers in order."""
    play = PLAYS[lab.variant]
    ended = lab.act(play, GO, bare=True)
    if ended.error or lab.seen() != ANSWERS[lab.variant] or len(lab.effects.all()) != len(ANSWERS[lab.variant]):
        raise Fault(f"bare: the model saw {lab.seen()}, the effects were {lab.effects.all()} {ended.error} {ended.message}")


@check("adapter", "harness", faces=("sync", "async"))
def the_bare_framework_repeats_the_effect(lab: Lab) -> None:
    """Bare, killed after the effect and resumed, the effect happens twice: the kill matrix can fail."""
    lab.killed(PLAYS["one call"], GO, "after effect", bare=True)
    lab.variant = "continue" if lab.harness.has_checkpoints else "same input"
    lab.act(PLAYS["one call"], lab.again(GO), bare=True)
    if lab.effects.count("charge", 5) != 2:
        raise Fault(f"bare, the effect happened {lab.effects.count('charge', 5)} times after kill and resume, not twice")


@check("adapter", "harness", faces=FACES)
def the_harness_lets_errors_out(lab: Lab) -> None:
    """Bare, what a tool raises reaches the suite: nothing that is expected to be raised can be swallowed on the way."""

    def fails(_stage: Stage, _name: str, _amount: int) -> str:
        raise LookupError("bank says no")

    ended = lab.act(Play(script=[[("charge", 5)]], bodies={"charge": fails}), GO, bare=True)
    if not ended.raised("LookupError"):
        raise Fault(f"bare, a tool raised LookupError and the turn ended with {ended.error or 'a result'}")


@check("adapter", "L1", faces=("stream", "astream"))
def items_of_a_stream_arrive_as_they_do_bare(lab: Lab) -> None:
    """What a stream yields before the last call is made is yielded before it: nothing is kept back until the end."""
    play = PLAYS["a loop"]

    def arrived(bench: Lab, *, bare: bool) -> list[int]:
        def work() -> list[int]:
            stage = Stage(bench, play, kill=None, nth=1, bare=bare)
            if not bench.is_async:
                return [len(bench.effects.all()) for _ in bench.harness.stream(bench.built(stage), GO)]

            async def whole() -> list[int]:
                return [len(bench.effects.all()) async for _ in bench.harness.astream(bench.built(stage), GO)]

            return asyncio.run(whole())

        return list(bench.here(work))

    bare, wrapped = arrived(lab.bench("bare"), bare=True), arrived(lab, bare=False)
    calls = len(ANSWERS["a loop"])
    early, wanted = (sum(count < calls for count in counts) for counts in (wrapped, bare))
    equal("items", len(wrapped), len(bare))
    expect(early >= wanted, f"{wanted} items arrive before the last call is made, and {early} when wrapped")


@check("adapter", "L1", faces=FACES, variants=list(PLAYS))
def a_wrapped_agent_returns_what_the_bare_one_returns(lab: Lab) -> None:
    """Results, stream items and what the model sees are those of the bare agent."""
    play, bare = PLAYS[lab.variant], lab.bench("bare")
    plain = bare.act(play, GO, bare=True)
    wrapped = lab.done(play, GO)
    order = sorted if lab.variant in {"parallel", "twins"} else list  # what runs at the same time arrives in any order
    equal("what it returned", order(wrapped.value.splitlines()), order(plain.value.splitlines()))
    equal("what the model saw", lab.model.all(), bare.model.all())


@check("adapter", "L1", faces=FACES, variants=list(PLAYS))
def each_requested_call_is_seen_exactly_once(lab: Lab) -> None:
    """AS-48: every requested call, twins included, is one row, committed once, and one effect."""
    lab.done(PLAYS[lab.variant], GO)
    wanted = sorted(answer.split()[0] for answer in ANSWERS[lab.variant])
    equal("rows in the ledger", sorted(row["tool"] for row in lab.calls()), wanted)
    equal("effects", sorted(name for name, _ in lab.effects.all()), wanted)
    equal("states", {row["state"] for row in lab.calls()} - {"committed"}, set())
    equal("times committed", lab.events.count("call.committed"), len(wanted))


@dataclass(frozen=True)
class _Keeping(Site):
    """A site that remembers what was wrapped, and leaves tools that code calls by itself bare."""

    wrapped: list[Any] = field(default_factory=list)

    def wrap(self, target: Any) -> Any:
        self.wrapped.append(target)
        return Site.wrap(self, target)

    def tool(self, target: Any) -> Any:
        return target


@check("adapter", "L1", capability="has_copies")
def wrapping_leaves_the_original_alone(lab: Lab) -> None:
    """What was wrapped is, without its wrapping, what it was: run by itself it has its effect and writes nothing into the ledger."""

    def work() -> None:
        stage = Stage(lab, PLAYS["one call"], kill=None, nth=1, bare=False)
        usual = lab.site(stage.guard)
        site = _Keeping(usual.folder, usual.guard, usual.face)
        lab.harness.build(stage.agent(), site)
        if not site.wrapped:
            raise Fault("the harness builds an agent without site.wrap")
        lab.plain(site.wrapped[-1], GO)

    lab.here(work)
    equal("effects, rows", (lab.effects.count("charge"), len(lab.calls())), (1, 0))


@check("adapter", "L1", variants=("loop", "nested"))
def a_wrapped_agent_looks_like_the_bare_one(lab: Lab) -> None:
    """Type, name, schemas and drawing are those of the bare object."""
    play = Play(script=[[("charge", 5)]], shape=lab.variant)

    def outline(*, bare: bool) -> object:
        from surefoot_conformance.forks import fork

        def work() -> object:
            stage = Stage(lab, play, kill=None, nth=1, bare=bare)
            return lab.harness.outline(lab.harness.build(stage.agent(), lab.site(stage.guard)))

        return lab.fair(fork(work, lab.folder / "log").wait())

    bare, wrapped = outline(bare=True), outline(bare=False)
    equal("the outline", wrapped.value, bare.value)  # type: ignore[attr-defined]
    expect(wrapped.value, "the outline is empty")  # type: ignore[attr-defined]


__all__ = ["ANSWERS", "GO", "PLAYS"]
