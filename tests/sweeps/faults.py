"""One agent in a process of its own, for strace to inject faults into: ``python -m sweeps.faults <folder>``."""

from __future__ import annotations

import sys
from pathlib import Path

from sweeps.support import Agent, Ask

from surefoot import SurefootError

SHORT = [[Ask("a", "pay"), Ask("b", "mail")]]


def main() -> None:
    """Run the agent; a typed error becomes its exit code, anything else a traceback."""
    agent = Agent(Path(sys.argv[1]), SHORT)
    try:
        agent.run()
        agent.guard.close()
    except SurefootError as exc:
        print(exc)
        sys.exit(exc.exit_code)


if __name__ == "__main__":
    main()
