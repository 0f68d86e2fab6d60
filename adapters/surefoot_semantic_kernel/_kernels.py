"""Kernels: a view that guards every function and chat service that goes through it."""

# pyright: reportMissingImports=false
# semantic-kernel conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from semantic_kernel.connectors.ai.chat_completion_client_base import ChatCompletionClientBase
from semantic_kernel.exceptions import KernelInvokeException
from semantic_kernel.filters.filter_types import FilterTypes

from surefoot import Guard
from surefoot_adapters import Kinds, each_guard, is_guarded, view
from surefoot_semantic_kernel import _convert, _functions, _processes, _services
from surefoot_semantic_kernel._runs import surfaced

__all__ = ["guarded", "unguarded"]


def guarded(kernel: Any, guard: Guard) -> Any:
    """Return the guarded view of a kernel, which shares its plugins, services and filters; of a guarded one, itself."""
    if is_guarded(getattr(type(kernel), "surefoot_guard", None), guard, "the kernel"):
        return kernel
    for plugin in kernel.plugins.values():
        for function in plugin.functions.values():
            _functions.register(guard, function)
    return view(kernel, _kinds(guard))


@each_guard
def _kinds(guard: Guard) -> Kinds:
    _convert.register(guard.codec)
    _processes.register(guard.codec)
    return Kinds(functools.partial(_namespace, guard=guard))


def unguarded(kernel: Any) -> Sequence[str]:
    """Return the names of a kernel's services whose replies are not kept."""
    return sorted(name for name, service in kernel.services.items() if not isinstance(service, ChatCompletionClientBase))


def _namespace(kind: type, guard: Guard) -> dict[str, Any]:
    """Return what a guarded kernel does otherwise than the framework's own."""
    bare: Any = kind

    def construct_call_stack(self: Any, filter_type: FilterTypes, inner_function: Callable[..., Any]) -> Any:
        """Build the stack of filters around what stands innermost: the guard."""
        if filter_type == FilterTypes.FUNCTION_INVOCATION:
            inner_function = _functions.claiming(guard, inner_function)
        elif filter_type == FilterTypes.AUTO_FUNCTION_INVOCATION:
            inner_function = _functions.requesting(inner_function)
        return bare.construct_call_stack(self, filter_type, inner_function)

    async def invoke(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await bare.invoke(self, *args, **kwargs)
        except KernelInvokeException as exc:
            stop = surfaced(exc)
            if stop is exc:
                raise
            raise stop from None

    def select_ai_service(self: Any, *args: Any, **kwargs: Any) -> Any:
        service, settings = bare.select_ai_service(self, *args, **kwargs)
        return _services.guarded(service, guard), settings

    def get_service(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _services.guarded(bare.get_service(self, *args, **kwargs), guard)

    def clone(self: Any) -> Any:
        return guarded(bare.clone(self), guard)

    overridden: tuple[Any, ...] = (construct_call_stack, invoke, select_ai_service, get_service, clone)
    return {"surefoot_guard": guard, **{made.__name__: functools.wraps(getattr(bare, made.__name__))(made) for made in overridden}}
