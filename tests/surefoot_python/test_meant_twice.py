"""What counts as meant twice in plain Python."""

from __future__ import annotations

from crash import Effects

import surefoot
from surefoot import Guard


def test_as_80_what_is_meant_twice_happens_twice_and_reads_are_fresh(guard: Guard, effects: Effects) -> None:
    """Equal mails under two declared keys are both sent, a read after a write reads anew, and a repeated key gets the real answer."""

    @surefoot.tool(effect="unsafe", key=["ref"])
    def send(ref: str, text: str) -> str:
        effects.add("send", ref)
        return f"sent {ref} {text}"

    @surefoot.tool(effect="read")
    def status() -> str:
        return f"{effects.count('send')} sent"

    def main() -> list[str]:
        return [send("1", "hi"), send("2", "hi"), status(), send("3", "hi"), status(), send("1", "hi")]

    assert surefoot.wrap(main, guard=guard)() == ["sent 1 hi", "sent 2 hi", "2 sent", "sent 3 hi", "3 sent", "sent 1 hi"]
    assert effects.all() == [["send", "1"], ["send", "2"], ["send", "3"]]
