"""Write the list of standard checks, ``surefoot_conformance/standard.json``, from the table.

A check that is changed or removed is a change of the standard; it is seen in this file, and a test compares the two.
"""

from __future__ import annotations

import json

from surefoot_conformance.runner import STANDARD
from surefoot_conformance.table import standard

if __name__ == "__main__":
    kinds = {kind: standard(kind) for kind in ("adapter", "store", "verifier")}
    STANDARD.write_text(json.dumps(kinds, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {STANDARD.name}: {sum(map(len, kinds.values()))} checks")
