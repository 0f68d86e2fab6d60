"""What an adapter asks before it wraps anything: the framework is there, new enough, and seen to be guarded."""

from __future__ import annotations

import importlib.metadata
import threading
from typing import Any

import pytest

from surefoot import AdapterUnavailable, Guard
from surefoot.engine.frames import Frame, here, innermost
from surefoot_adapters import CANARY, Framework

REQUIRES = [
    "pluggy>=1.5",
    'toys-extra>=9; extra == "toys"',
    'toys<2,>=1.2.14; extra == "toys"',
    'other>=3; extra == "test"',
    'Loud-Toys (>=0.5) ; extra == "loud"',
    'boundless; extra == "boundless"',
]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Releases that look installed beside a distribution that declares :data:`REQUIRES`."""
    found: dict[str, str] = {}

    def version(name: str) -> str:
        if name not in found:
            raise importlib.metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "requires", lambda _name: REQUIRES)
    return found


def nothing(_guard: Guard) -> None:
    """Call nothing."""


def called(guard: Guard, name: str = CANARY) -> Any:
    """Run a plain function in a guarded run, as a framework would."""

    def tool() -> str:
        return "seen"

    tool.__qualname__ = name
    guarded = guard.tool(tool)

    def main() -> Any:
        return guarded()

    return guard.plugins.adapter_for(main).wrap(main, guard)()


@pytest.mark.parametrize(
    ("package", "extra", "floor"), [("toys", None, "1.2.14"), ("loud-toys", "loud", "0.5"), ("boundless", None, "0"), ("absent", None, "0")]
)
def test_the_range_is_read_from_the_extra(package: str, extra: str | None, floor: str, installed: dict[str, str]) -> None:
    """The floor is the extra's own, whatever else stands in it; without one there is none."""
    assert Framework(package, nothing, extra=extra).floor() == floor


@pytest.mark.parametrize("version", ["1.2.14", "1.2.15", "1.10", "2.0.0"])
def test_a_release_from_the_floor_on_is_accepted(version: str, installed: dict[str, str]) -> None:
    """Versions are compared as numbers; a newer one than the extra names is for the canary to judge."""
    installed["toys"] = version
    Framework("toys", nothing).check()


@pytest.mark.parametrize("version", ["1.2.13", "1.2", "0.99.99"])
def test_as_57_a_release_below_the_floor_is_refused(version: str, installed: dict[str, str]) -> None:
    """AS-57: a release that is too old is refused with the command that mends it."""
    installed["toys"] = version
    with pytest.raises(AdapterUnavailable, match=rf"{version} is too old .* pip install 'toys>=1\.2\.14'"):
        Framework("toys", nothing).ready()


def test_as_57_a_missing_framework_is_named_with_the_extra(installed: dict[str, str]) -> None:
    """AS-57: where the framework is not installed, the sentence says which extra to install, also of somebody else's distribution."""
    with pytest.raises(AdapterUnavailable, match=r"toys is not installed; run: pip install 'my-adapter\[playing\]'"):
        Framework("toys", nothing, extra="playing", declared_by="my-adapter").ready()


def test_as_61_a_call_that_is_seen_is_asked_for_once() -> None:
    """AS-61: the canary runs once in a process, and is enough."""
    asked: list[Guard] = []

    def canary(guard: Guard) -> None:
        asked.append(guard)
        called(guard)

    framework = Framework("toys", canary)
    framework.prove()
    framework.prove()
    assert framework.proven
    assert len(asked) == 1


@pytest.mark.timeout(20)
def test_a_canary_may_wrap_as_users_do() -> None:
    """What it wraps asks whether the framework is ready, which is what it is there to find out: it is not waited for."""

    def canary(guard: Guard) -> None:
        framework.prove()
        called(guard)

    framework = Framework("toys", canary)
    framework.prove()
    assert framework.proven


@pytest.mark.parametrize(
    "canary",
    [nothing, lambda guard: called(guard, "another"), lambda guard: [called(guard), called(guard)]],
    ids=["nothing", "another", "twice"],
)
def test_as_59_a_call_that_is_not_seen_is_refused(canary: Any) -> None:
    """AS-59: the guard must have seen exactly that one call, each time it is asked."""
    framework = Framework("toys", canary)
    for _ in range(2):
        with pytest.raises(AdapterUnavailable, match="guard not installed: a synthetic tool call through toys was recorded as"):
            framework.prove()


def test_as_59_a_canary_that_fails_says_how() -> None:
    """AS-59: what the framework raises is the cause; what the adapter itself says of a moved hook point passes unchanged."""

    def fails(_guard: Guard) -> None:
        raise KeyError("run")

    with pytest.raises(AdapterUnavailable, match="failed \\(KeyError: 'run'\\)"):
        Framework("toys", fails).prove()

    def moved(_guard: Guard) -> None:
        raise AdapterUnavailable("keeps its body elsewhere")

    with pytest.raises(AdapterUnavailable, match=r"^keeps its body elsewhere$"):
        Framework("toys", moved).prove()


def test_a_canary_is_in_no_run_of_its_caller() -> None:
    """Wrapping inside a run: the canary's call belongs to no run but its own, and to no thread that may have a loop."""
    seen: list[Any] = []

    def canary(guard: Guard) -> None:
        seen.extend([innermost(here()), threading.current_thread()])
        called(guard)

    def main() -> str:
        assert isinstance(here(), Frame)
        Framework("toys", canary).prove()
        return "done"

    guard = Guard("memory://")
    assert guard.plugins.adapter_for(main).wrap(main, guard)() == "done"
    assert seen[0] is None
    assert seen[1] is not threading.current_thread()
    assert guard.calls.list() == []
