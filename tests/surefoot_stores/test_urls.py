"""Which URLs are stores."""

from __future__ import annotations

import pytest

from surefoot import Guard, Store, UsageError
from surefoot.hookspecs import hookimpl
from surefoot.plugins import Plugins
from surefoot_stores import MemoryStore


@pytest.mark.parametrize("url", ["redis://127.0.0.1:6379/0", "rediss://cache/0", "encrypted+redis://cache", "valkey://cache"])
def test_redis_is_no_ledger(url: str) -> None:
    """A Redis URL is refused with the reason and what to use; nothing is connected to."""
    with pytest.raises(UsageError, match=r"appendfsync always.*postgresql://"):
        Guard(url)


def test_a_plugin_may_answer_for_a_url_that_is_refused() -> None:
    """A store of somebody else for such a URL is asked before it is refused, in whichever order the plugins were loaded."""

    class Theirs:
        """Somebody's plugin."""

        @hookimpl
        def surefoot_store(self, url: str) -> Store | None:
            """Answer for Redis."""
            return MemoryStore() if url.startswith("redis://") else None

    plugins = Plugins()
    plugins.register(Theirs(), "a first one")
    plugins.load_installed()
    assert isinstance(plugins.open_store("redis://cache"), MemoryStore)
