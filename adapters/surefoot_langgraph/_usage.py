"""What chat models report that they used, told to whoever limits it; once for every real call of a model, never for a replay."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables.config import RunnableConfig, merge_configs

from surefoot import Guard, UsageError

__all__ = ["told"]


class _Tells(BaseCallbackHandler):
    """Passes on the usage of every reply. What a model does not report counts as nothing (AS-36)."""

    def __init__(self, record: Any) -> None:
        self._record = record

    def on_llm_end(self, response: LLMResult, **_kwargs: Any) -> None:
        """Pass on what one call of a model used."""
        for generation in (one for several in response.generations for one in several if isinstance(one, ChatGeneration)):
            used = getattr(generation.message, "usage_metadata", None) or {}
            name = generation.message.response_metadata.get("model_name", "")
            self._record(model=str(name), input_tokens=used.get("input_tokens"), output_tokens=used.get("output_tokens"))


_tells: WeakKeyDictionary[Guard, _Tells | None] = WeakKeyDictionary()


def told(guard: Guard, config: RunnableConfig) -> RunnableConfig:
    """Return a node's config with which its models tell what they use, where the guard has somebody who limits anything."""
    if not guard.admissions:
        return config
    if guard not in _tells:
        try:
            _tells[guard] = _Tells(guard.plugins.view("usage", guard))
        except UsageError:  # another policy than ours, that does not want to know
            _tells[guard] = None
    teller, callbacks = _tells[guard], config.get("callbacks")
    if teller is not None and isinstance(callbacks, BaseCallbackManager):
        callbacks.add_handler(teller)  # the node's own manager, which is also the one that untraced nodes find in their context
        return config
    return merge_configs(config, {"callbacks": [teller]}) if teller is not None else config
