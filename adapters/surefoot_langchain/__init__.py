"""LangChain adapter: ``surefoot.wrap`` for an agent of ``create_agent``, a chain of runnables, or a tool.

A built agent is a LangGraph graph and is guarded as one, with its middleware; :class:`SurefootMiddleware` guards one where it is
made, and goes in by itself. An invocation of a wrapped chain is a run; functions and chat models in it are steps, so that a run
that was killed goes on behind what it had committed; tools in it are calls. Not covered: what a function calls by itself, unless
it is a guarded object; a runnable class of your own that keeps others elsewhere than in its fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from surefoot import Adapter, Capabilities, Guard, RunRecord, UsageError, hookimpl
from surefoot_langgraph import LangGraphAdapter, is_langchains

if TYPE_CHECKING:
    from surefoot_adapters import Do
    from surefoot_langchain._middleware import SurefootMiddleware

__all__ = ["LangChainAdapter", "SurefootMiddleware", "surefoot_adapter"]

_RUNNABLES: Final = "langchain_core.runnables"
_CHAINS: Final = {
    f"{_RUNNABLES}.{name}"
    for name in (
        "base.RunnableBindingBase",
        "base.RunnableEachBase",
        "base.RunnableLambda",
        "base.RunnableParallel",
        "base.RunnableSequence",
        "branch.RunnableBranch",
        "fallbacks.RunnableWithFallbacks",
        "passthrough.RunnableAssign",
    )
}


def __getattr__(name: str) -> Any:
    """Import LangChain only when its middleware is asked for."""
    if name == "SurefootMiddleware":
        from surefoot_langchain._middleware import SurefootMiddleware

        return SurefootMiddleware
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class LangChainAdapter(LangGraphAdapter):
    """Wraps agents of ``create_agent``, and chains."""

    name = "langchain"
    capabilities = Capabilities(copies=True, resumes=True)

    def matches(self, target: object) -> bool:
        """Return whether ``target`` is an agent that ``create_agent`` made, or a chain, importing nothing."""
        from surefoot_adapters import kinds_of

        return is_langchains(target) or not _CHAINS.isdisjoint(kinds_of(target))

    def wrap(self, target: Any, guard: Guard) -> Any:
        """Return the guarded copy (see :meth:`surefoot.Adapter.wrap`)."""
        from surefoot_langchain import _support

        _support.framework.ready()
        if is_langchains(target):
            return super().wrap(target, guard)
        from surefoot_langchain import _chains

        wrapped = _chains.guarded(target, guard)
        guard.announce(f"chain {target.get_name()}")
        return wrapped

    def rewind(self, target: Any, run: RunRecord, mark: int | None) -> Do:
        """Return what takes an agent's thread back (see :class:`surefoot_recovery.Rewinds`); a chain keeps nothing."""
        from surefoot_adapters import Do

        return super().rewind(target, run, mark) if is_langchains(target) else Do(lambda: None)

    def place(self, target: Any, run: RunRecord, mark: int | None) -> Mapping[str, Any]:
        """Return the config to branch an agent off with (see :class:`surefoot_recovery.Branches`)."""
        if not is_langchains(target):
            raise UsageError(f"run {run.run_id} is a chain's, which cannot be branched off: run the chain under another name")
        return super().place(target, run, mark)

    def again(self, target: Any, run: RunRecord, given: Any) -> object:
        """Run an agent or a chain with a recorded input (see :meth:`surefoot_journal.Replays.again`)."""
        import asyncio

        return super().again(target, run, given) if is_langchains(target) else asyncio.run(target.ainvoke(given))


@hookimpl
def surefoot_adapter() -> Adapter:
    """Hand over the adapter."""
    return LangChainAdapter()
