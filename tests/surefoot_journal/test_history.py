"""Conversations without a framework: every request is answered before anybody else speaks, and nothing else changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from providers import anthropic, openai

from surefoot_journal.history import Asked, Entry, answered, orphans

Item = tuple[str, Any]


def entries(items: Sequence[Item]) -> list[Entry]:
    """Return a conversation written as (role, ids) as entries."""
    made = []
    for role, what in items:
        asks = tuple(Asked(call_id, "pay", {}) for call_id in what) if role == "assistant" else ()
        made.append(Entry((role, what), asks, what if role == "tool" else None, role != "tool"))
    return made


def chat(items: Sequence[Item]) -> list[dict[str, Any]]:
    """Return it as the rules of the providers want it."""
    return [
        {"role": role} | ({"asks": list(what)} if role == "assistant" else {"answers": what} if role == "tool" else {})
        for role, what in items
    ]


def whole(items: Sequence[Item]) -> list[Item]:
    """Return the conversation with an answer to every request."""
    return answered(entries(items), lambda asked: ("tool", asked.call_id))


@st.composite
def broken(draw: st.DrawFn) -> list[Item]:
    """Draw a conversation whose requests are answered late, or never; every id is new."""
    items: list[Item] = [("user", None)]
    late: list[Item] = []
    for turn in range(draw(st.integers(1, 5))):
        ids = tuple(f"call_{turn}_{n}" for n in range(draw(st.integers(0, 3))))
        items.append(("assistant", ids))
        for call_id in ids:
            fate = draw(st.sampled_from(["answered", "late", "never"]))
            if fate == "answered":
                items.append(("tool", call_id))
            elif fate == "late":
                late.append(("tool", call_id))
        if draw(st.booleans()):
            items.append(("user", None))
            items += late if draw(st.booleans()) else []
            late = late if items[-1][0] == "user" else []
    return [*items, *late, ("user", None)]


@given(broken())
def test_as_32_what_comes_out_is_valid_for_both_providers(items: list[Item]) -> None:
    """Whatever is missing or late, the result is a conversation that OpenAI and Anthropic take, and no item is lost."""
    found = whole(items)
    assert (openai(chat(found)), anthropic(chat(found))) == ([], [])
    assert [item for item in found if item[0] != "tool"] == [item for item in items if item[0] != "tool"]
    assert {item for item in items if item[0] == "tool"} <= set(found)
    assert len(found) == len(items) + len(orphans(entries(items)))


@given(broken())
def test_a_whole_conversation_comes_back_as_it_was(items: list[Item]) -> None:
    """Made whole twice, a conversation is what it was: the same objects in the same order."""
    once = whole(items)
    again = answered(entries(once), lambda asked: pytest.fail(f"{asked} has an answer"))
    assert again == once


@pytest.mark.parametrize(
    "items",
    [
        [("user", None), ("assistant", ("a",)), ("user", None)],
        [("user", None), ("assistant", ("a", "b")), ("tool", "b"), ("user", None)],
        [("user", None), ("assistant", ("a",)), ("user", None), ("tool", "a")],
    ],
    ids=["never", "one of two", "late"],
)
def test_negative_control_the_rules_find_what_is_broken(items: list[Item]) -> None:
    """The rules of both providers refuse a conversation with a request that is not answered in its place."""
    assert openai(chat(items))
    assert anthropic(chat(items))


def test_answers_without_a_request_are_left_alone() -> None:
    """An answer whose request is kept by the provider, not in the conversation, stays where it is."""
    items: list[Item] = [("tool", "elsewhere"), ("user", None)]
    assert whole(items) == items
