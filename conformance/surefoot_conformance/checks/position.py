"""Is the guard where it must be? A framework that is missing, too old, or has moved; wrapping twice."""

from __future__ import annotations

import subprocess
import sys

from surefoot_conformance.checks.transparent import GO
from surefoot_conformance.lab import Lab, Play, Stage
from surefoot_conformance.table import check, equal, expect

PLAY = Play(script=[[("charge", 5)]])


def _unavailable(lab: Lab, prepare: str) -> str:
    """Build the agent in a process in which something was taken away; return what it was refused with."""

    def work() -> str:
        from importlib import metadata

        from surefoot import AdapterUnavailable

        real = metadata.version

        def version(name: str) -> str:
            if name != lab.harness.distribution:
                return real(name)
            if prepare == "missing":
                raise metadata.PackageNotFoundError(name)
            return "0.0.1"

        if prepare == "moved":
            lab.harness.move_hook_point()
        else:
            metadata.version = version  # type: ignore[assignment]
        try:
            lab.turn(Stage(lab, PLAY, kill=None, nth=1, bare=False), GO)
        except AdapterUnavailable as exc:
            return str(exc)
        return ""

    told: str = lab.here(work)
    expect(told, f"nothing was refused; the effect happened {lab.effects.count('charge')} times, unguarded")
    equal("effects", lab.effects.count("charge"), 0)
    return told


@check("adapter", "L1", capability="has_framework")
def a_missing_framework_is_one_sentence(lab: Lab) -> None:
    """AS-59: without the framework wrapping is refused with what to install."""
    expect("pip install" in _unavailable(lab, "missing"), "the sentence does not say what to install")


@check("adapter", "L1", capability="has_framework")
def a_framework_that_is_too_old_is_refused(lab: Lab) -> None:
    """AS-59: a release below the range is refused with its version and what to install."""
    told = _unavailable(lab, "old")
    expect("0.0.1" in told and "pip install" in told, f"the sentence says too little: {told}")


@check("adapter", "L1", capability="has_movable_hook_point")
def a_moved_hook_point_is_noticed(lab: Lab) -> None:
    """AS-59, AS-61: where calls no longer pass the guard, wrapping is refused; never unguarded in silence."""
    _unavailable(lab, "moved")


@check("adapter", "L1", capability="has_framework")
def importing_the_adapter_imports_no_framework(lab: Lab) -> None:
    """AS-56: the adapter's package is imported without the framework, as the command line does."""
    distribution = (lab.harness.distribution or "").replace("-", "_")
    program = f"import sys; sys.modules[{distribution!r}] = None; " + "; ".join(f"import {name}" for name in lab.harness.packages)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    expect(done.returncode == 0, done.stderr.strip().rpartition("\n")[2])


@check("adapter", "L1")
def wrapping_twice_is_one_guard(lab: Lab) -> None:
    """A wrapped object wrapped again with the same guard has one guard; each call is still one row and one effect."""

    def work() -> None:
        import surefoot

        stage = Stage(lab, PLAY, kill=None, nth=1, bare=False)
        lab.plain(surefoot.wrap(lab.built(stage), guard=stage.guard), GO)

    lab.here(work)
    equal("effects, rows", (lab.effects.count("charge"), len(lab.calls())), (1, 1))


@check("adapter", "L1")
def two_guards_on_one_object_are_refused(lab: Lab) -> None:
    """Another guard on a wrapped object is an error that says so."""

    def work() -> str:
        import surefoot

        try:
            stage = Stage(lab, PLAY, kill=None, nth=1, bare=False)
            plugins = stage.guard.plugins if stage.guard else None
            surefoot.wrap(lab.built(stage), guard=surefoot.Guard("memory://", plugins=plugins))
        except surefoot.UsageError as exc:
            return str(exc)
        return ""

    expect(lab.here(work), "two guards were accepted")
