"""A process that asks for an approval and is killed, or resumes: ``approving.py FOLDER POLICY start|resume``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from langgraph.checkpoint.sqlite import SqliteSaver
from support import Effects, ask, config, planner, react

import surefoot

folder, policy, what = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
with SqliteSaver.from_conn_string(str(folder / "checkpoints.db")) as saver:
    built = react(planner([ask("pay", amount=5)]), [Effects(folder / "effects").tool("pay")])
    graph = surefoot.wrap(built.compile(checkpointer=saver), store=f"sqlite:///{folder}/s.db", policy=policy)
    state = graph.invoke({"messages": [("user", "go")]} if what == "start" else None, config("t"))
    if what == "start":
        os.kill(os.getpid(), signal.SIGKILL)
    print(next(message.content for message in state["messages"] if message.type == "tool"))
