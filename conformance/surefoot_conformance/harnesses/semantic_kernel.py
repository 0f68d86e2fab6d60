"""Semantic Kernel: chat completion agents with a scripted chat service. No checkpoints: the same input resumes."""

# pyright: reportMissingImports=false
# semantic-kernel conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import PrivateAttr
from semantic_kernel import Kernel
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.chat_completion_client_base import ChatCompletionClientBase
from semantic_kernel.contents import (
    ChatMessageContent,
    FunctionCallContent,
    FunctionResultContent,
    StreamingChatMessageContent,
    StreamingTextContent,
)
from semantic_kernel.contents.utils.author_role import AuthorRole
from semantic_kernel.filters.filter_types import FilterTypes
from semantic_kernel.functions import KernelFunctionFromMethod, KernelPlugin, kernel_function

import surefoot
from surefoot_conformance.harness import Agent, Ask, Harness, Reply, Site, Turn

__all__ = ["SemanticKernelHarness"]


class SemanticKernelHarness(Harness):
    """One agent with functions of a plugin; nested, it is run in a function of another agent.

    Semantic Kernel shows every error of a function to the model. Where one has to end the run, a filter raises it on.
    """

    name = "semantic-kernel"
    distribution = "semantic-kernel"
    packages = ("surefoot_semantic_kernel", "surefoot_journal")
    has_checkpoints = False
    has_fan_out = False

    def build(self, agent: Agent, site: Site) -> Any:
        """Return the agent of the shape."""
        loop = _loop(agent)
        return site.wrap(loop) if agent.shape == "loop" else site.wrap(_nested(agent, site.wrap(loop)))

    def invoke(self, target: Any, turn: Turn) -> Any:
        """Run it, in a loop of its own; a plain function is called in the loop's thread, and has to take another."""
        if surefoot.current_call() is None:
            return asyncio.run(self.ainvoke(target, turn))
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(contextvars.copy_context().run, lambda: asyncio.run(self.ainvoke(target, turn))).result()

    async def ainvoke(self, target: Any, turn: Turn) -> Any:
        """Run it."""
        with surefoot.run(turn.run, thread=turn.thread):
            item = await target.get_response(turn.input)
        return [item.message, *[message async for message in item.thread.get_messages()]]

    async def astream(self, target: Any, turn: Turn) -> AsyncIterator[Any]:
        """Run it and yield its items."""
        with surefoot.run(turn.run, thread=turn.thread):
            stream = target.invoke_stream(turn.input)
            first = await anext(stream, None)
        if first is not None:
            yield first
        async for item in stream:
            yield item

    def shown(self, raw: Any) -> str:
        """Return what can be seen of an item, or of a result and its conversation: answers to one reply sorted, they come as they end."""
        first, *said = raw if isinstance(raw, list) else [raw.message]
        return repr([type(first).__qualname__, _text(first), sorted(map(_text, said))])

    def outline(self, target: Any) -> Any:
        """Return type, name and what the model is told of the functions."""
        functions = [metadata.model_dump(exclude={"return_parameter"}) for metadata in target.kernel.get_full_list_of_function_metadata()]
        return [*super().outline(target), type(target.kernel).__qualname__, target.name, target.instructions, repr(functions)]

    def move_hook_point(self) -> None:
        """Have kernels build their stacks of filters elsewhere."""
        from semantic_kernel.filters.kernel_filters_extension import KernelFilterExtension

        bare = KernelFilterExtension.construct_call_stack
        from semantic_kernel.functions.kernel_function import KernelFunction

        async def invoke(self: Any, kernel: Any, arguments: Any = None, metadata: Any = None, **kwargs: Any) -> Any:  # noqa: ARG001 - stands in for it
            from semantic_kernel.filters.functions.function_invocation_context import FunctionInvocationContext

            context = FunctionInvocationContext(function=self, kernel=kernel, arguments=arguments)
            await bare(kernel, FilterTypes.FUNCTION_INVOCATION, self._invoke_internal)(context)
            return context.result

        moved: Any = KernelFunction
        moved.invoke = invoke


def _text(message: Any) -> str:
    items = [item.model_dump(mode="json", exclude={"id", "inner_content", "metadata"}) for item in message.items]
    return json.dumps([message.role.value, message.name, items], sort_keys=True, default=str)


class _Scripted(ChatCompletionClientBase):  # type: ignore[misc] # Semantic Kernel is not there for the type checker
    """The suite's scripted model."""

    SUPPORTS_FUNCTION_CALLING = True
    _agent: Agent = PrivateAttr()

    @classmethod
    def of(cls, agent: Agent) -> Any:
        """Return the service of an agent."""
        made = cls(ai_model_id="scripted", service_id="scripted")
        made._agent = agent
        return made

    def reply(self, messages: Sequence[ChatMessageContent]) -> Reply:
        """Return what the script says to what was said since the newest words of the user."""
        newest = max(index for index, message in enumerate(messages) if message.role == AuthorRole.USER)
        since = messages[newest + 1 :]
        asked = [item.id for message in since for item in message.items if isinstance(item, FunctionCallContent)]
        seen = [item for message in since for item in message.items if isinstance(item, FunctionResultContent)]
        seen.sort(key=lambda item: asked.index(item.id))  # as they ended, not as they were asked for
        given = sum(message.role == AuthorRole.ASSISTANT for message in since)
        return self._agent.reply(given, [str(item.result) for item in seen], messages[newest].content)

    async def _inner_get_chat_message_contents(self, chat_history: Any, settings: Any) -> list[ChatMessageContent]:  # noqa: ARG002 - the framework's signature
        reply = self.reply(chat_history.messages)
        made: Any = ChatMessageContent
        return [made(role="assistant", items=_calls(reply)) if reply.calls else made(role="assistant", content=reply.text)]

    async def _inner_get_streaming_chat_message_contents(
        self,
        chat_history: Any,
        settings: Any,  # noqa: ARG002 - the framework's signature
        function_invoke_attempt: int = 0,
    ) -> AsyncIterator[list[StreamingChatMessageContent]]:
        reply = self.reply(chat_history.messages)
        items = _calls(reply) if reply.calls else [StreamingTextContent(choice_index=0, text=f"{word} ") for word in reply.text.split(" ")]
        made: Any = StreamingChatMessageContent
        for part in [items] if reply.calls else [[item] for item in items]:
            yield [made(role="assistant", choice_index=0, items=part, function_invoke_attempt=function_invoke_attempt)]


def _calls(reply: Reply) -> list[Any]:
    return [FunctionCallContent(id=ask.call_id, name=ask.tool, arguments=json.dumps(dict(ask.arguments))) for ask in reply.calls]


def _loop(agent: Agent) -> ChatCompletionAgent:
    kernel = Kernel(services=_Scripted.of(agent), plugins=_plugin({tool.name: tool.function for tool in agent.tools}))
    if not agent.shows_errors:
        _raise_on(kernel)
    return ChatCompletionAgent(kernel=kernel, name=agent.step)


def _plugin(functions: dict[str, Callable[..., Any]]) -> KernelPlugin:
    """Return a plugin whose functions have their own names, without the plugin's before them."""
    plugin = KernelPlugin(name="tools")
    for name, function in functions.items():
        plugin.functions[name] = KernelFunctionFromMethod(method=kernel_function(function, name=name))
    return plugin


def _raise_on(kernel: Kernel) -> None:
    """Have what a function raises end the run."""

    @kernel.filter(FilterTypes.FUNCTION_INVOCATION)  # type: ignore[untyped-decorator] # as above
    async def note(context: Any, next: Any) -> None:
        try:
            await next(context)
        except Exception as exc:
            context.arguments["raised"] = exc
            raise

    @kernel.filter(FilterTypes.AUTO_FUNCTION_INVOCATION)  # type: ignore[untyped-decorator] # as above
    async def raise_on(context: Any, next: Any) -> None:
        await next(context)
        if (raised := context.arguments.get("raised")) is not None:
            raise raised


def _nested(agent: Agent, worker: Any) -> ChatCompletionAgent:
    """Return an agent whose only function runs the other one."""
    delegating = Agent(
        agent.tools,
        lambda given, seen, said: Reply([], seen[0]) if given else Reply([Ask(agent.step, {"words": said})], ""),
        step=agent.step,
    )

    async def work(words: str) -> str:
        """Have the work done."""
        return str((await worker.get_response(words)).message)

    kernel = Kernel(services=_Scripted.of(delegating), plugins=_plugin({agent.step: work}))
    _raise_on(kernel)
    return ChatCompletionAgent(kernel=kernel, name="outer")
