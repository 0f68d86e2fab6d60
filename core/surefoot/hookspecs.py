"""The hooks of surefoot. A plugin is a module or object with functions of these names, marked ``@hookimpl``.

A package advertises it with an entry point in the group ``surefoot``::

    [project.entry-points.surefoot]
    my_store = "my_package.plugin"

Hooks hand over objects and do no I/O. Built-ins register through the same hooks. Only
:class:`surefoot.plugins.Plugins` calls them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from surefoot.contracts import Adapter, Policy, Store, Verifier
    from surefoot.engine.guard import Guard
    from surefoot.types import Event

__all__ = ["hookimpl", "hookspec"]

hookspec = pluggy.HookspecMarker("surefoot")
hookimpl = pluggy.HookimplMarker("surefoot")


@hookspec
def surefoot_adapter() -> Adapter:  # type: ignore[empty-body]
    """Return the plugin's :class:`~surefoot.Adapter`.

    Called once, when the first object is wrapped. Two adapters that match one object are an error.
    """


@hookspec(firstresult=True)
def surefoot_store(url: str) -> Store | None:
    """Return the :class:`~surefoot.Store` for ``url``, or ``None`` if its scheme is not yours.

    :param url: what the user gave: ``sqlite:///path``, ``memory://``, ``myscheme://…``. Open nothing yet.

    If nobody answers, wrapping fails with :class:`~surefoot.UsageError`; there is no fall-back.
    """


@hookspec(firstresult=True)
def surefoot_ledger(url: str) -> Store | None:
    """Return the store that keeps calls, events, leases, records and counters for ``url``.

    Only asked when ledger and checkpoints are separate (``checkpoints=`` of :class:`~surefoot.Guard`). The
    ledger is written first, so that a checkpoint is never ahead of it.

    :param url: the ledger's URL.
    """


@hookspec(firstresult=True)
def surefoot_checkpoints(url: str) -> Store | None:
    """Return the store that keeps only checkpoints for ``url``, beside a separate ledger.

    :param url: the URL given as ``checkpoints=``.
    """


@hookspec(firstresult=True)
def surefoot_verifier(spec: str) -> Verifier | None:
    """Return the :class:`~surefoot.Verifier` for ``spec``, or ``None`` if it is not yours.

    :param spec: the string given as ``StepRule(verifier=…)``, for example ``rules`` or ``llm:gpt``.
    """


@hookspec(firstresult=True)
def surefoot_policy(spec: str) -> Policy | None:
    """Return the :class:`~surefoot.Policy` for ``spec``, or ``None`` if it is not yours.

    :param spec: the string or path given as ``policy=``.
    """


@hookspec(firstresult=True)
def surefoot_view(name: str, guard: Guard) -> Any:
    """Return what you offer of a guard's store under ``name``, or ``None`` if it is not yours.

    :param name: the attribute of :class:`~surefoot.Guard` that was asked for: ``approvals``.
    :param guard: the guard.
    """


@hookspec
def surefoot_event(event: Event) -> None:
    """See one event, after it is durable.

    :param event: the stored event. What you raise is logged and changes nothing.
    """


@hookspec
def surefoot_redact(text: str) -> str | None:
    """Return ``text`` without what must not reach the disk, or ``None`` to leave it alone.

    :param text: one string of the arguments, results, errors or event data that is about to be stored.

    What you raise stops the write: nothing is stored unredacted.
    """


@hookspec
def surefoot_cli(group: Any) -> None:
    """Add commands to the command line.

    :param group: the ``click.Group`` of ``surefoot``; call ``group.add_command``.
    """
