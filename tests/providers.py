"""What OpenAI and Anthropic take for a conversation, as rules over chat messages; written from their documentation.

A message is a mapping with ``role``; an assistant's may have ``asks``, the ids of the calls that it requests, and a tool's has
``answers``, the id of the call that it answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["anthropic", "openai"]


def openai(messages: Sequence[dict[str, Any]]) -> list[str]:
    """Return what the chat API refuses: the messages right behind one with requests answer each of them, and nothing else does."""
    found: list[str] = []
    waiting: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message["answers"] not in waiting:
                found.append(f"{message['answers']} answers no request before it")
            waiting.discard(message["answers"])
            continue
        found += [f"{call_id} is not answered before the {message['role']} speaks" for call_id in sorted(waiting)]
        waiting = set(message.get("asks", ()))
    return found + [f"{call_id} is never answered" for call_id in sorted(waiting)]


def anthropic(messages: Sequence[dict[str, Any]]) -> list[str]:
    """Return what the messages API refuses: the next message's first blocks are the results of exactly the calls before it."""
    found: list[str] = []
    turns = list(_turns(message for message in messages if message["role"] != "system"))
    ids = [call_id for turn in turns for call_id in turn["uses"]]
    found += [f"{call_id} is used twice" for call_id in sorted({call_id for call_id in ids if ids.count(call_id) > 1})]
    for turn, after in zip(turns, [*turns[1:], {"role": "user", "uses": [], "results": [], "late": []}], strict=True):
        missing = set(turn["uses"]) - set(after["results"])
        found += [f"{call_id} has no result in the next message" for call_id in sorted(missing)]
        found += [f"{call_id} is a result of no use before it" for call_id in sorted(set(after["results"]) - set(turn["uses"]))]
        found += [f"{call_id} comes behind words" for call_id in turn["late"]]
    return found


def _turns(messages: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the messages as that API has them: results are blocks of the user's message, and neighbours of one role are one."""
    turn: dict[str, Any] | None = None
    for message in messages:
        role = "assistant" if message["role"] == "assistant" else "user"
        if turn is None or turn["role"] != role:
            if turn is not None:
                yield turn
            turn = {"role": role, "uses": [], "results": [], "late": [], "words": False}
        turn["uses"] += list(message.get("asks", ()))
        if message["role"] == "tool":
            turn["results"].append(message["answers"])
            turn["late"] += [message["answers"]] if turn["words"] else []
        elif role == "user":
            turn["words"] = True
    if turn is not None:
        yield turn
