"""Is this semantic-kernel one that can be guarded? A proof by a call."""

# pyright: reportMissingImports=false
# semantic-kernel conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

import asyncio
from typing import Any

from surefoot import Guard
from surefoot_adapters import CANARY, Framework

__all__ = ["framework"]


def _canary(guard: Guard) -> None:
    from semantic_kernel import Kernel
    from semantic_kernel.connectors.ai.chat_completion_client_base import ChatCompletionClientBase
    from semantic_kernel.connectors.ai.function_choice_behavior import FunctionChoiceBehavior
    from semantic_kernel.connectors.ai.prompt_execution_settings import PromptExecutionSettings
    from semantic_kernel.contents import ChatHistory, ChatMessageContent, FunctionCallContent
    from semantic_kernel.functions import KernelFunctionFromMethod, KernelPlugin, kernel_function

    from surefoot_semantic_kernel import _kernels

    @kernel_function(name=CANARY)  # type: ignore[untyped-decorator] # Semantic Kernel is not there for the type checker
    def seen() -> str:
        """Prove that the guard sees a call."""
        return "seen"

    class Scripted(ChatCompletionClientBase):  # type: ignore[misc] # Semantic Kernel is not there for the type checker
        """Asks for the canary and then is done."""

        SUPPORTS_FUNCTION_CALLING = True

        async def _inner_get_chat_message_contents(self, chat_history: Any, settings: Any) -> list[ChatMessageContent]:  # noqa: ARG002 - the framework's signature
            if len(chat_history.messages) > 1:
                return [ChatMessageContent(role="assistant", content="done")]
            asks = FunctionCallContent(id="canary", name=CANARY, arguments={})
            return [ChatMessageContent(role="assistant", items=[asks])]

    plugin = KernelPlugin(name="canary")
    plugin.functions[CANARY] = KernelFunctionFromMethod(method=seen)  # of no plugin's name
    kernel = Kernel(services=Scripted(ai_model_id="canary"), plugins=plugin)
    guarded = _kernels.guarded(kernel, guard)
    service, _ = guarded.select_ai_service()
    history = ChatHistory()
    history.add_user_message("go")
    settings = PromptExecutionSettings(function_choice_behavior=FunctionChoiceBehavior.Auto())
    asyncio.run(service.get_chat_message_contents(history, settings, kernel=guarded))


framework = Framework("semantic-kernel", _canary)
