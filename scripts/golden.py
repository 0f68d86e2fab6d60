"""Record the run of each installed adapter that its certificate replays, ``surefoot_conformance/recordings/<adapter>.jsonl``.

A run that was recorded again is a change of what earlier releases recorded: say in the changelog that they cannot be replayed.
Name the adapters to record; default: those that have no recorded run yet.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path

from surefoot_conformance import golden
from surefoot_conformance.harness import Harness
from surefoot_conformance.harnesses import KNOWN
from surefoot_conformance.lab import Lab
from surefoot_conformance.table import cells


def main(names: list[str]) -> None:
    """Record them."""
    for name, spec in KNOWN.items():
        module, _, kind = spec.partition(":")
        if names and name not in names:
            continue
        try:
            harness = getattr(importlib.import_module(module), kind)()
        except ImportError as exc:
            print(f"{name}: {exc.name} is not installed")
            continue
        file = golden.recording(name)
        if isinstance(harness, Harness) and (names or not file.exists()):
            with tempfile.TemporaryDirectory() as folder:
                lines = golden.recorded(Lab(harness, Path(folder), next(cells("adapter", harness))))
            file.parent.mkdir(exist_ok=True)
            file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            print(f"{name}: {len(lines)} lines")


if __name__ == "__main__":
    main(sys.argv[1:])
