"""``surefoot runs replay`` and ``export``: a recorded run once more without model, network and tools, and as a file."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

import surefoot
from surefoot import AdapterUnavailable, Guard, RunStatus, UsageError
from surefoot._api import RunName
from surefoot_adapters.runs import thread_of
from surefoot_cli.context import Context, as_json, load_object, print_json
from surefoot_journal import Recorded, Replay, ReplayDiffers, Replays, current_replay, offline

__all__ = ["export", "replay"]

_NETWORK: Final = frozenset({"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"})


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--app", required=True, metavar="MODULE:OBJECT", help="The agent that was run, wrapped or bare.")
@click.option("--diff", is_flag=True, help="Show what was recorded beside what came instead.")
@click.option("--input", "given", metavar="JSON", help="What the agent was given, where the run does not know it.")
@as_json
@click.pass_obj
def replay(context: Context, run: str, app: str, diff: bool, given: str | None, as_json: bool) -> None:
    """Run a recorded RUN through the agent again: no model, no network, no tool; the first thing that differs is named.

    RUN is a run's id, the name that it was given, or a file that 'surefoot runs export' wrote. A name stands for its
    newest run. Exits with 10 where something differs.
    """
    file = Path(run)
    guard = Guard("memory://") if file.is_file() else context.guard()
    recorded = _parsed(file) if file.is_file() else Recorded.of(guard, _id_of(guard, run))
    found = _replayed(recorded, app, guard, given)
    if as_json:
        print_json(**found.as_json())
    else:
        _tell(found, diff=diff)
    if found.outcome == "differs":
        raise SystemExit(ReplayDiffers.exit_code)


@click.command()
@click.argument("run", metavar="RUN")
@click.pass_obj
def export(context: Context, run: str) -> None:
    """Write a run as JSON lines, redacted: what 'surefoot runs replay' needs, and nothing else.

    RUN is a run's id, or the name that it was given, which stands for its newest run.
    """
    guard = context.guard()
    for line in Recorded.of(guard, _id_of(guard, run)).lines(guard.redact):
        click.echo(line)


@dataclass(frozen=True, slots=True)
class _Found:
    """What became of a replay."""

    replay: Replay
    error: BaseException | None
    """What the agent raised."""

    @property
    def outcome(self) -> str:
        """``same``; ``differs``; ``ends`` where a run that was not completed has no more recorded."""
        first, completed = self.replay.first, self.replay.recorded.run.status is RunStatus.COMPLETED
        if first is not None:
            return "ends" if first.ends else "differs"
        if completed:
            return "differs" if self.error is not None or self.replay.left() else "same"
        return "ends"

    @property
    def why(self) -> str:
        """Return in words what differs, or where the recording ends."""
        if self.replay.first is not None:
            return str(self.replay.first)
        if self.error is not None:
            return f"the agent raised {type(self.error).__name__}: {self.error}"
        left = self.replay.left()
        return f"the agent has ended, and the recorded run went on with {'; '.join(left[:3])}" if left else ""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        first, run = self.replay.first, self.replay.recorded.run
        return {
            "run": run.run_id,
            "status": run.status,
            "outcome": self.outcome,
            "why": self.why,
            "recorded": first.recorded if first else None,
            "now": first.now if first else None,
            "left": self.replay.left() if first is None else [],
            "replies": self.replay.replies,
            "calls": self.replay.calls,
            "steps": self.replay.steps,
        }


def _id_of(guard: Guard, run: str) -> str:
    """Return the id of the newest run of that name or thread, or what was given: then it is an id."""
    called = {run, thread_of(RunName(run))}
    named = [one for one in guard.runs.list(limit=sys.maxsize) if one.thread in called]
    if len({one.tenant for one in named}) > 1:
        raise UsageError(f"runs of several tenants are called {run!r}; give the id of one, 'surefoot runs list' shows them")
    return named[0].run_id if named else run


def _parsed(file: Path) -> Recorded:
    try:
        text = file.read_text(encoding="utf-8")
        if not text.strip():
            raise UsageError(f"{file} is empty: what should have written it failed; run 'surefoot runs export RUN > {file}' again")
        return Recorded.parse(text.splitlines())
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{file} cannot be read ({exc}); give a file that 'surefoot runs export' wrote") from exc


def _replayed(recorded: Recorded, app: str, guard: Guard, given: str | None) -> _Found:
    target = load_object(app)
    adapter = guard.plugins.adapter_for(target)
    if not isinstance(adapter, Replays):
        raise AdapterUnavailable(f"the adapter {adapter.name} cannot run an object by itself, so {app} cannot be replayed from here")
    owner = adapter.guard_of(target)
    if owner is None:
        target, owner = adapter.wrap(target, guard), guard
    run = recorded.run
    if run.adapter != adapter.name:
        raise UsageError(
            f"run {run.run_id} was recorded with {run.adapter}, and {app} is an object of {adapter.name}; name the agent that was run"
        )
    value = _input(recorded, owner, given)
    error: BaseException | None = None
    with offline(owner, recorded) as found, _no_network(found), redirect_stdout(sys.stderr), surefoot.run(thread=run.thread or run.run_id):
        try:
            adapter.again(target, run, value)
        except UsageError:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever the agent raises is what it did
            error = exc
    return _Found(found, error)


def _input(recorded: Recorded, guard: Guard, given: str | None) -> Any:
    if given is not None:
        try:
            return json.loads(given)
        except ValueError as exc:
            raise UsageError(f"--input is not JSON ({exc}); a text needs quotes of its own: --input '\"order 7\"'") from exc
    if recorded.input is None:
        run_id = recorded.run.run_id
        raise UsageError(
            f"the input of run {run_id} was not kept: it has no name, or what it was given is no plain data. Give --input JSON"
        )
    return guard.codec.loads(recorded.input)


_watched: list[Replay] = []


@contextmanager
def _no_network(found: Replay) -> Iterator[None]:
    """Refuse connections in the block, in every thread: what is not journalled would be asked live."""
    if not getattr(_hook, "added", False):
        sys.addaudithook(_hook)
        _hook.added = True  # type: ignore[attr-defined]
    _watched.append(found)
    try:
        yield
    finally:
        _watched.remove(found)


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _watched or event not in _NETWORK or (event == "socket.connect" and isinstance(args[1], str | bytes)):
        return  # a path is no network
    inside = current_replay()
    if inside is None:  # a thread of some library
        raise ConnectionRefusedError("an offline replay is under way in this process")
    where = args[1] if event.startswith("socket.c") else args[0]
    raise inside.differs(f"the agent asks the network for {where!r} outside of any recorded call")


def _tell(found: _Found, *, diff: bool) -> None:
    replay = found.replay
    run = replay.recorded.run
    click.echo(f"run {run.run_id}  {run.adapter}  {run.status}")
    click.echo(f"replayed: {len(replay.steps)} steps, {len(replay.replies)} model replies, {len(replay.calls)} calls")
    click.echo(
        {"same": "the same from beginning to end", "differs": f"differs: {found.why}", "ends": found.why or "ends here"}[found.outcome]
    )
    if diff and replay.first is not None:
        click.echo("".join(_difference(replay.first)).rstrip())


def _difference(first: ReplayDiffers) -> Iterator[str]:
    recorded, now = (_pretty(text) for text in (first.recorded, first.now))
    yield from difflib.unified_diff(recorded, now, "recorded", "now", n=10_000)


def _pretty(text: str | None) -> list[str]:
    if text is None:
        return ["(nothing)\n"]
    return [f"{line}\n" for line in json.dumps(json.loads(text), indent=2, ensure_ascii=False, sort_keys=True).splitlines()]
