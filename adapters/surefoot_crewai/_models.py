"""Models, guarded in place: their replies number the requests of a turn, and are journalled, so that a resumed run asks nothing twice."""

# pyright: reportMissingImports=false
# crewai conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from crewai.llms.base_llm import BaseLLM
from crewai.utilities.agent_utils import extract_tool_call_info

from surefoot import Guard
from surefoot_adapters import Do, Program, Stopped, here
from surefoot_crewai import _hooks, _turns
from surefoot_crewai._swap import swap
from surefoot_crewai._usage import Meter
from surefoot_journal import Form, Question, ReplayDiffers, unrecorded

__all__ = ["guarded"]

_PARAMETERS: Final = list(inspect.signature(BaseLLM.call).parameters)[1:]


def guarded(model: Any, guard: Guard) -> None:
    """Guard a model in place. Outside of an agent's turn it is itself."""
    swap(model, guard, _methods(type(model), guard))


def _methods(kind: Any, guard: Guard) -> dict[str, Any]:
    @functools.wraps(kind.call)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        bare = functools.partial(kind.call, self, *args, **kwargs)
        turn = _begun()
        return _live(self, bare) if turn is None else guard.drive(_reply(turn, _Asked(self, args, kwargs), Do(bare)))

    @functools.wraps(kind.acall)
    async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
        bare = functools.partial(kind.acall, self, *args, **kwargs)
        turn = _begun()
        return await (_live(self, bare) if turn is None else guard.adrive(_reply(turn, _Asked(self, args, kwargs), Do(bare, bare))))

    made = {"call": call, "acall": acall}
    for method in made.values():
        vars(method)["_crewai_rate_limit_wrapped"] = True  # else its retries around a call multiply; owner: test_private_names
    return made


def _live(model: Any, bare: Callable[[], Any]) -> Any:
    """Ask a model in a place whose replies are not journalled; never in an offline replay."""
    try:
        unrecorded(model)
    except ReplayDiffers as error:
        raise (error if here() is None else Stopped(error)) from None
    return bare()


def _begun() -> _turns.Turn | None:
    """Return the turn that a model call is in; its model has seen every answer so far."""
    current = _turns.turn.get()
    if current is None or current.frame is not here():
        return None
    _hooks.fail_closed()
    current.requests.replied()
    return current


def _reply(turn: _turns.Turn, asked: _Asked, ask: Do) -> Program[Any]:
    """Return the recorded reply, or the model's; what it asks for are the turn's requests from here on."""
    if asked.is_of(turn):
        reply = yield from asked.reply(turn, ask)
    else:
        reply = yield Do(functools.partial(_live, asked.model, ask.plain), ask.coro and functools.partial(_live, asked.model, ask.coro))
    turn.requests.replied(_requests(reply))
    return reply


class _Asked:
    """What a model is asked, by the parameters of the framework's ``BaseLLM.call``."""

    def __init__(self, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.model = model
        bound: Mapping[str, Any] = {**dict(zip(_PARAMETERS, args, strict=False)), **kwargs}
        given = bound["messages"]
        self._messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
        self._tools = bound.get("tools") or []
        self._acts = bool(bound.get("available_functions"))
        """It calls the tools by itself; what it returns is not what it was asked."""

    def is_of(self, turn: _turns.Turn) -> bool:
        """Return whether this is the turn's own conversation, whose order is the same in every process."""
        prompt = next((message.get("content") for message in self._messages if message.get("role") == "user"), None)
        if turn.prompt is None:
            turn.prompt = prompt
        return not self._acts and prompt == turn.prompt

    def reply(self, turn: _turns.Turn, ask: Do) -> Program[Any]:
        """Return the recorded reply, or the model's, which is kept with what it used."""
        used: dict[str, int] = {}
        meter = Meter.of(self.model)

        def plain() -> Any:
            meter.begin(self.model)
            try:
                return ask.plain()
            finally:
                used.update(meter.end(self.model))

        async def coro() -> Any:
            meter.begin(self.model)
            try:
                return await (ask.coro or ask.plain)()
            finally:
                used.update(meter.end(self.model))

        form = Form(_data, lambda data: data, lambda _reply: used)
        return (yield from turn.recording.reply(self.question(turn), Do(plain, coro if ask.coro else None), form))

    def question(self, turn: _turns.Turn) -> Question:
        """Return the question to the journal: what was said is what the step is about, not how the prompt puts it today."""
        answered = [message.get("content") for message in self._messages if message.get("role") in {"tool", "assistant"}]
        names = [tool.get("function", tool).get("name", "") for tool in self._tools if isinstance(tool, dict)]
        return Question(turn.agent.role, str(self.model.model), names, turn.said, answered, [self._messages, self._tools])


def _requests(reply: Any) -> list[_turns.Asked]:
    """Return what a reply asks for, as far as it says so in parts; a text is parsed by the framework."""
    found = [extract_tool_call_info(part) for part in reply] if isinstance(reply, list) else []
    return [_turns.Asked(name, _arguments(given), call_id) for call_id, name, given in filter(None, found)]


def _arguments(given: Any) -> Any:
    if isinstance(given, str):
        with suppress(ValueError):
            given = json.loads(given)
    return given if isinstance(given, dict) else {}


def _data(reply: Any) -> Any:
    """Return a reply as data. Requests in a provider's own objects become the plain form, which the framework takes as well."""
    if not isinstance(reply, list) or all(isinstance(part, dict) for part in reply):
        return reply
    found = [extract_tool_call_info(part) for part in reply]
    if None in found:
        return reply
    return [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": given}} for call_id, name, given in filter(None, found)
    ]
