"""The typed façade over the hooks: the only module that calls them."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, Final

import pluggy

from surefoot import hookspecs, redaction
from surefoot.contracts import Adapter, Policy, Store, Verifier
from surefoot.errors import AdapterUnavailable, SurefootWarning, UsageError
from surefoot.split import SplitStore
from surefoot.types import Event

__all__ = ["DEFAULT_STORE", "Plugins"]

_log = logging.getLogger("surefoot.plugins")
DEFAULT_STORE: Final = "sqlite:///.surefoot/surefoot.db"
_GROUP: Final = "surefoot"


class Plugins:
    """A set of plugins somebody made. Entry points load one by one; what fails is in ``skipped`` with the reason."""

    def __init__(self) -> None:
        self._pm = pluggy.PluginManager("surefoot")
        self._pm.add_hookspecs(hookspecs)
        self._listening: list[Callable[..., Any]] = []
        self._redacting: list[Callable[..., Any]] = []
        self.skipped: dict[str, str] = {}
        self._stores: dict[str, Store] = {}
        self._lock = threading.Lock()

    @classmethod
    def default(cls) -> Plugins:
        """Return this process's set, loaded from the installed entry points on first use."""
        global _default  # noqa: PLW0603 - one set per process, made on demand
        with _default_lock:
            if _default is None:
                _default = cls()
                _default.load_installed()
            return _default

    def load_installed(self) -> None:
        """Load every advertised plugin; a missing framework never stops the others.

        Raises :class:`~surefoot.UsageError` for a misspelt hook.
        """
        import importlib.metadata

        for entry in sorted(importlib.metadata.entry_points(group=_GROUP), key=lambda e: e.name):
            if self._pm.has_plugin(entry.name):
                continue
            try:
                self._pm.register(entry.load(), entry.name)
            except (AdapterUnavailable, ImportError) as exc:
                self.skipped[entry.name] = str(exc)
        self._check()

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a plugin by hand. Raises :class:`~surefoot.UsageError` for a misspelt hook or argument."""
        try:
            self._pm.register(plugin, name)
        except (ValueError, pluggy.PluginValidationError) as exc:
            raise UsageError(str(exc)) from exc
        self._check()

    def _check(self) -> None:
        try:
            self._pm.check_pending()
        except pluggy.PluginValidationError as exc:
            raise UsageError(str(exc)) from exc
        # Asked several times a call: a façade's own lists are ten times faster than pluggy's.
        self._listening = [impl.function for impl in self._pm.hook.surefoot_event.get_hookimpls()]
        self._redacting = [impl.function for impl in self._pm.hook.surefoot_redact.get_hookimpls()]

    def names(self) -> list[str]:
        """Return the names of the registered plugins, sorted."""
        return sorted(name for name, _ in self._pm.list_name_plugin())

    def adapters(self) -> list[Adapter]:
        """Return every adapter."""
        return list(self._pm.hook.surefoot_adapter())

    def adapter_for(self, target: object) -> Adapter:
        """Return the one adapter that wraps ``target``.

        Raises :class:`~surefoot.AdapterUnavailable` when none or several do.
        """
        found = [adapter for adapter in self.adapters() if adapter.matches(target)]
        if len(found) == 1:
            return found[0]
        kind = f"{type(target).__module__}.{type(target).__qualname__}"
        if found:
            msg = f"{' and '.join(a.name for a in found)} both claim {kind}; remove one of the plugins"
        else:
            missing = "".join(f"; {name}: {why}" for name, why in self.skipped.items())
            msg = f"no adapter wraps {kind}; 'surefoot doctor' lists the adapters that are installed{missing}"
        raise AdapterUnavailable(msg)

    def open_store(self, store: str | Store | None, *, strict: bool = False, checkpoints: str | None = None) -> Store:
        """Return the store for a URL (one per URL and process), or the one given.

        ``None`` means ``SUREFOOT_STORE``, else the development store, which ``strict`` refuses. With ``checkpoints``
        it is a pair: the ledger here, the checkpoints there.
        """
        from pathlib import Path

        if checkpoints is not None:
            kept = self._pm.hook.surefoot_checkpoints(url=checkpoints) or self.open_store(checkpoints)
            ledger = self._pm.hook.surefoot_ledger(url=store) if isinstance(store, str) else None
            return SplitStore(ledger or self.open_store(store, strict=strict), kept)
        if isinstance(store, Store):
            return store
        url = store or os.environ.get("SUREFOOT_STORE")
        if url is None:
            if strict:
                raise UsageError("strict=True needs a store: give store=, or set SUREFOOT_STORE")
            url = _development_store(Path(DEFAULT_STORE.removeprefix("sqlite:///")))
        key = f"sqlite:///{Path(url.removeprefix('sqlite:///')).absolute()}" if url.startswith("sqlite:///") else url
        with self._lock:
            if key not in self._stores:
                made = self._pm.hook.surefoot_store(url=key)
                if made is None:
                    raise UsageError(f"no plugin opens the store {url!r}; use sqlite:///path, memory://, or install the plugin for it")
                if url.startswith("memory://"):
                    return made  # type: ignore[no-any-return]
                self._stores[key] = made
            return self._stores[key]

    def verifier(self, spec: str) -> Verifier:
        """Return the verifier for a spec. Raises :class:`~surefoot.UsageError` when no plugin knows it."""
        return _known(self._pm.hook.surefoot_verifier(spec=spec), "makes a verifier for", spec)  # type: ignore[no-any-return]

    def policy(self, spec: str) -> Policy:
        """Return the policy for a spec. Raises :class:`~surefoot.UsageError` when no plugin knows it."""
        return _known(self._pm.hook.surefoot_policy(spec=spec), "reads the policy", spec)  # type: ignore[no-any-return]

    def view(self, name: str, guard: object) -> Any:
        """Return what a plugin offers of a guard's store under a name. Raises :class:`~surefoot.UsageError` when no plugin does."""
        return _known(self._pm.hook.surefoot_view(name=name, guard=guard), "offers", name)

    def deliver(self, events: Sequence[Event], listener: Callable[[Event], None] | None = None) -> None:
        """Show stored events to every plugin and to ``listener``; one that raises is logged and changes nothing."""
        for event, listens in product(events, [*self._listening, listener] if listener else self._listening):
            try:
                listens(event)
            except Exception:  # noqa: BLE001 - who listens never stops a run
                _log.exception("%r raised for event %s; the run goes on", listens, event.type)

    def redactor(self) -> Callable[[str], str] | None:
        """Return :meth:`redact`, or ``None`` while there is no secret and no plugin that redacts."""
        return self.redact if self._redacting or redaction.any_registered() else None

    def redact(self, text: str) -> str:
        """Return ``text`` without registered secrets and as every redacting plugin leaves it; what one raises stops the write."""
        text = redaction.redact(text)
        for redacts in self._redacting:
            text = str(redacts(text=text) or text)
        return text

    def cli(self, group: object) -> None:
        """Let every plugin add its commands."""
        self._pm.hook.surefoot_cli(group=group)


def _known(made: Any, does: str, spec: str) -> Any:
    if made is None:
        raise UsageError(f"no plugin {does} {spec!r}; 'surefoot plugins list' shows what is installed")
    return made


def _development_store(path: Any) -> str:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / ".gitignore").write_text("*\n")
        msg = f"using the development store {path.absolute()}; give store= or set SUREFOOT_STORE for anything that matters"
        warnings.warn(msg, SurefootWarning, stacklevel=5)
    return DEFAULT_STORE


_default: Plugins | None = None
_default_lock = threading.RLock()  # a plugin may declare tools while it loads
