"""One process that runs the cells of one harness: it imports the framework, starts nothing, and forks a child for each cell."""

from __future__ import annotations

import contextlib
import fnmatch
import gc
import importlib
import inspect
import json
import os
import random
import selectors
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from surefoot_conformance.capability import meaning
from surefoot_conformance.forks import Child, Ended, fork
from surefoot_conformance.harness import Harness, Turn
from surefoot_conformance.harnesses import KNOWN
from surefoot_conformance.judges import VerifierBench, VerifierHarness
from surefoot_conformance.keepers import StoreBench, StoreHarness
from surefoot_conformance.lab import Lab, Play, Stage
from surefoot_conformance.report import ground, nameless
from surefoot_conformance.seal import Seal, broken, seal
from surefoot_conformance.table import NEEDS, NOTHING_TO_VARY, Broken, Cell, Fault, Kind, NotRun, Skip, cells, standard

__all__ = ["kind_of", "load", "main"]

_BENCHES: dict[str, Any] = {"adapter": Lab, "store": StoreBench, "verifier": VerifierBench}
_ABOVE_L1 = {"adapter": ("has_body_guard",), "store": ("has_durability", "has_oracle")}
"""What an implementation must have for a certificate above L1."""
CELL_SECONDS = 90.0
"""How long one cell may take."""


def load(name: str) -> Any:
    """Return the harness of a built-in name, or of ``module:Class``."""
    module, _, attribute = KNOWN.get(name, name).partition(":")
    sys.path.insert(0, str(Path.cwd()))
    return getattr(importlib.import_module(module), attribute)()


def kind_of(harness: object) -> Kind:
    """Return what a harness is for."""
    for base, kind in ((Harness, "adapter"), (StoreHarness, "store"), (VerifierHarness, "verifier")):
        if isinstance(harness, base):
            return kind  # type: ignore[return-value]
    raise TypeError(f"{type(harness).__qualname__} is no harness: subclass Harness, StoreHarness or VerifierHarness")


def main(name: str, only: Sequence[str], *, jobs: int, seed: int) -> None:
    """Run the cells of a harness whose names match ``only``; print one JSON line for each, and one for what they ran on.

    They run in the order that ``seed`` gives.
    """
    tell = _own_output()
    sealed = seal()
    harness = load(name)
    kind = kind_of(harness)
    if threading.active_count() != 1:
        raise Fault("importing the harness started a thread: a forked child would be a broken one")
    known = list(cells(kind, harness))
    for pattern in only:
        if not any(_matches(cell, pattern) for cell in known):
            raise Fault(f"no check or cell of a {kind} is called {pattern!r}; a certificate's JSON lists them all")
    wanted = [cell for cell in known if not only or any(_matches(cell, pattern) for pattern in only)]
    told = {"harness": harness.name, "kind": kind, "cells": [_known(cell) for cell in wanted], "standard": standard(kind)}
    told["place"] = str(Path(__file__).parent.parent)
    told["problems"] = [*_changed(sealed), *nameless(harness.packages)]
    sealed = seal()
    tell(told | {"ground": ground(harness)})
    random.Random(seed).shuffle(wanted)  # noqa: S311 - an order, not a secret
    with _scratch() as folder:
        _warm(harness, wanted, folder)
        for line in _run(harness, wanted, folder, jobs, sealed):
            tell(line)


def _matches(cell: Cell, pattern: str) -> bool:
    return pattern in {cell.check.name, cell.name} or fnmatch.fnmatchcase(cell.check.name, pattern)


def _known(cell: Cell) -> dict[str, Any]:
    return {
        "cell": cell.name,
        "check": cell.check.name,
        "level": cell.check.level,
        "capability": cell.check.capability,
        "face": cell.face,
        "point": cell.point,
        "variant": cell.variant,
    }


def _own_output() -> Callable[[dict[str, Any]], None]:
    """Keep standard output for the runner, who reads JSON from it; what a harness prints goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(line: dict[str, Any]) -> None:
        out.write(json.dumps(line) + "\n")
        out.flush()

    return tell


def _changed(sealed: Seal) -> list[str]:
    return [f"{place} of the suite was replaced after the harness was loaded" for place in broken(sealed)]


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it; a killed process, unlike a power cut, loses no file
    folder = Path(tempfile.mkdtemp(prefix="surefoot-certify-", dir=memory if os.access(memory, os.W_OK) else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _warm(harness: Any, wanted: Sequence[Cell], folder: Path) -> None:
    """Import what a play imports, so that no child has to: one child plays on each face and says what it loaded."""
    known = set(sys.modules)
    for cell in {cell.face: cell for cell in wanted if not _skips(harness, cell)}.values() if isinstance(harness, Harness) else ():
        (bench := folder / f"warm {cell.face}").mkdir()
        lab = Lab(harness, bench, cell)

        def work(lab: Lab = lab) -> list[str]:
            lab.turn(Stage(lab, Play(script=[[("charge", 5)]]), kill=None, nth=1, bare=False), Turn("t", "go", run="r1"))
            return [name for name in sys.modules if name not in known]

        for name in fork(work, bench / "log").wait().value or ():
            with contextlib.suppress(Exception):  # the cells say what is wrong
                importlib.import_module(name)
    gc.freeze()


def _run(harness: Any, wanted: Sequence[Cell], folder: Path, jobs: int, sealed: Seal) -> Iterator[dict[str, Any]]:
    """Run cells, ``jobs`` at a time; yield their results as they end."""
    waiting, number = list(reversed(wanted)), 0
    with selectors.DefaultSelector() as running:
        while waiting or running.get_map():
            while waiting and len(running.get_map()) < jobs:
                cell, number = waiting.pop(), number + 1
                reason = _skips(harness, cell)
                if reason:
                    yield _known(cell) | {"status": "skipped", "reason": reason, "effects": {}}
                    continue
                child = _begin(harness, cell, folder / str(number), sealed)
                running.register(child.answer, selectors.EVENT_READ, (cell, child, time.monotonic()))
            for key, _ in running.select(1.0):
                cell, child, begun = key.data
                running.unregister(key.fd)
                yield _known(cell) | _judged(child.wait(CELL_SECONDS)) | {"seconds": round(time.monotonic() - begun, 3)}
            for key in list(running.get_map().values()):
                if time.monotonic() - key.data[2] > CELL_SECONDS:
                    key.data[1].kill()


def _skips(harness: Any, cell: Cell) -> str:
    """Return why a cell cannot be run on this implementation; ``""``: it can."""
    if cell.variant == NOTHING_TO_VARY:
        return "the harness names nothing to vary"
    is_contract = cell.check.level in {"harness", "L1"} or (cell.check.kind == "store" and not cell.check.capability)
    above = () if is_contract else _ABOVE_L1.get(cell.check.kind, ())
    for capability in (cell.check.capability, NEEDS.get(cell.face, ""), *above):
        if capability and not getattr(harness, capability):
            return f"{capability} is not claimed, that {meaning(harness, capability)}"
    return ""


def _begin(harness: Any, cell: Cell, folder: Path, sealed: Seal) -> Child:
    folder.mkdir()

    def work() -> dict[str, Any]:
        lab: Any = _BENCHES[cell.check.kind](harness, folder, cell)
        status, reason = "passed", ""
        try:
            cell.check.run(lab)
        except (Skip, NotRun) as exc:
            ours = _raised_in(exc) == inspect.getsourcefile(cell.check.run)
            status = ("skipped" if isinstance(exc, Skip) else "not_run") if ours else "fault"
            reason = str(exc) if ours else f"only a check may say that it is not run, and {_raised_in(exc)} did: {exc}"
        except Broken as exc:
            by_harness = _raised_in(exc.__context__) == inspect.getsourcefile(type(harness))
            status, reason = "fault" if by_harness else "failed", str(exc)
        except Fault as exc:
            status, reason = "fault", str(exc)
        except Exception as exc:  # noqa: BLE001 - whose it is, says the place where it was raised
            ours = _raised_in(exc) == inspect.getsourcefile(type(harness)) or Path(__file__).parent in Path(_raised_in(exc)).parents
            status, reason = "fault" if ours else "failed", f"{type(exc).__name__}: {exc}\n{traceback.format_exc()[-3000:]}"
        if changed := _changed(sealed):
            status, reason = "fault", "; ".join(changed)
        return {"status": status, "reason": reason, "effects": lab.counted()}

    return fork(work, folder / "log")


def _raised_in(exc: BaseException | None) -> str:
    """Return the file in which an exception was raised."""
    frames = traceback.extract_tb(exc.__traceback__) if exc else []
    return frames[-1].filename if frames else ""


def _judged(ended: Ended) -> dict[str, Any]:
    if ended.value is not None:
        return dict(ended.value)
    why = "the cell did not end in time" if ended.hung or ended.killed else f"the cell's process ended: {ended.error} {ended.message}"
    return {"status": "failed" if ended.hung or ended.killed else "fault", "reason": why, "effects": {}}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[4:], jobs=int(sys.argv[2]) or os.cpu_count() or 2, seed=int(sys.argv[3]))
