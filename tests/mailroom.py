"""What a plan of the tests is about: a mailbox whose mails a tool deletes, and what a call of it would delete."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from crash import Effects

import surefoot

__all__ = ["MAILS", "PLAN", "delete_all", "filled", "targets", "token_in"]

PLAN = "tools: [{tool: delete, plan: {targets: 'mailroom:targets'}}]\n"
MAILS: dict[str, list[Any]] = {}
"""What is in each folder. A test fills it."""


@contextmanager
def filled() -> Iterator[None]:
    """Put two mails into the spam folder, for a while."""
    MAILS.clear()
    MAILS["spam"] = ["win money", "cheap pills"]
    yield
    MAILS.clear()


def delete_all(effects: Effects, folder: str) -> str:
    """Delete the mails of a folder."""
    for mail in MAILS[folder]:
        effects.add("delete", mail)
    return f"deleted {len(MAILS[folder])}"


def targets(call: surefoot.Call) -> list[Any]:
    """Return what a call would delete."""
    return list(MAILS[call.arguments["folder"]])


def token_in(text: str) -> str:
    """Return the token that a dry run has told, or an empty text."""
    found = re.search(r"plan_token='(plan_[0-9a-f]+)'", text)
    return found[1] if found else ""
