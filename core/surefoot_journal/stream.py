"""Streams: a live one passes item by item and is recorded when it is whole; a recorded one is replayed as a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from surefoot import Guard
from surefoot_journal.recording import Form, Question, Recording

__all__ = ["astream", "stream"]


def stream(
    guard: Guard, recording: Recording, question: Question, live: Callable[[], Iterator[Any]], form: Form, is_last: Callable[[Any], bool]
) -> Iterator[Any]:
    """Yield the items of the recorded reply, or of the model's, which ``form`` sees as a list.

    The item that makes the reply whole is held back until the reply is durable, because who sees it may act on it. A stream
    that ends without one, or that its consumer leaves, is not recorded: nobody knows the reply.
    """
    recorded = guard.drive(recording.find(question))
    if recorded is not None:
        yield from form.load(recorded.data)
        return
    items: list[Any] = []
    for item in live():
        items.append(item)
        if is_last(item):
            guard.drive(recording.keep(question, form.dump(items), form.usage(items)))
        yield item


async def astream(
    guard: Guard,
    recording: Recording,
    question: Question,
    live: Callable[[], AsyncIterator[Any]],
    form: Form,
    is_last: Callable[[Any], bool],
) -> AsyncIterator[Any]:
    """Like :func:`stream`, on the asynchronous face."""
    recorded = await guard.adrive(recording.find(question))
    if recorded is not None:
        for item in form.load(recorded.data):
            yield item
        return
    items: list[Any] = []
    async for item in live():
        items.append(item)
        if is_last(item):
            await guard.adrive(recording.keep(question, form.dump(items), form.usage(items)))
        yield item
