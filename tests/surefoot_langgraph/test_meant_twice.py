"""What counts as meant twice on LangGraph."""

from __future__ import annotations

from typing import Any

from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from support import Effects, answers, ask, config, hello, planner, react

import surefoot
from surefoot import Guard, ToolRule


def test_as_80_what_is_meant_twice_happens_twice_and_reads_are_fresh(effects: Effects, store: str) -> None:
    """Equal mails under two declared keys are both sent, a read after a write reads anew, and a repeated key gets the real answer."""

    @tool
    def send(ref: str, text: str) -> str:
        """Send."""
        effects.add("send", ref)
        return f"sent {ref}"

    @tool
    def status() -> str:
        """Look."""
        return f"{effects.count('send')} sent"

    def mail(ref: str) -> Any:
        return ask("send", ref=ref, text="hi")

    guard = Guard(store, tools={"send": ToolRule(effect="unsafe", key=["ref"])}, reads=["status"])
    plan = planner([mail("1"), mail("2")], [ask("status")], [mail("3")], [ask("status")], [mail("1")])
    graph = surefoot.wrap(react(plan, [send, status]).compile(checkpointer=InMemorySaver()), guard=guard)
    assert answers(graph.invoke(hello(), config("t"))) == ["sent 1", "sent 2", "2 sent", "sent 3", "3 sent", "sent 1"]
    assert sorted(effects.all()) == [["send", "1"], ["send", "2"], ["send", "3"]]
