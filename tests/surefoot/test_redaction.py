"""AS-67: registered secrets reach nothing that surefoot writes, and calls with equal arguments are recognised all the same."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import re
import signal
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

import surefoot
from surefoot import Guard, ResultUnavailable, StepRule, StoreUnavailable, ToolRule, UsageError, Verdict, redaction
from surefoot.engine.claims import Request
from surefoot.engine.program import Do
from surefoot.engine.run import RunSpec, close_run, open_run
from surefoot.engine.step import StepSpec, step
from surefoot.types import RunStatus
from surefoot_stores import SqliteStore

SECRET = 'sk-live/"canary"+ünlikely 77'  # noqa: S105 - a canary
NOTHING = Do(lambda: None)


@pytest.fixture(autouse=True)
def registered() -> None:
    """Register the secret for one test."""
    surefoot.register_secret(SECRET, name="key")


def spellings(secret: str = SECRET) -> dict[str, bytes]:
    """Return the secret as a leak may have it, made without the code under test."""
    raw = secret.encode()
    return {
        "raw": raw,
        "json": json.dumps(secret)[1:-1].encode(),
        "url": quote_plus(raw).encode(),
        "url lower": re.sub("%..", lambda code: code[0].lower(), quote_plus(raw)).encode(),
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        **{f"base64 {n}": base64.b64encode(b"." * n + raw + b".") for n in range(3)},
        "base64url": base64.urlsafe_b64encode(raw),
    }


def traces() -> dict[str, bytes]:
    """Return what to look for: of base64, the part that depends on the secret alone."""
    return {name: form[4:-4] if name.startswith("base64") else form for name, form in spellings().items()}


def leaky(guard: Guard) -> None:
    """Run a step whose arguments, results, errors and verdict are full of the secret."""
    spec = RunSpec("test", "default", "thread", "input", {"token": SECRET}, guard.codec.digest(SECRET), NOTHING, Do(dict), lambda e: e)
    run = guard.drive(open_run(guard, spec)).run
    forms = [value.decode(errors="replace") for value in spellings().values()]

    def body(frame: Any) -> str:
        for form in forms:
            arguments = {"nested": [{"innocent": f"https://u:{form}@host/?q={form}"}], form: 1, "data": form.encode()}
            with contextlib.suppress(ResultUnavailable):  # the second attempt asks for what was not stored
                guard.call(frame, Request("send", arguments, None), lambda form=form: {"echo": form})

        def broken() -> None:
            raise ConnectionError(f"POST with {SECRET} failed")

        with pytest.raises(ConnectionError):
            guard.call(frame, Request("send", {"broken": True}, None), broken)
        return SECRET

    one = StepSpec(run, None, "s#1", "s", {"in": SECRET}, guard.codec.digest(SECRET))
    guard.drive(step(guard, one, lambda frame: Do(lambda: body(frame))))
    guard.drive(close_run(guard, run, RunStatus.COMPLETED))


def strict_once() -> StepRule:
    """Return a rule whose verifier rejects the first output with the secret in its words."""
    asked: list[int] = []

    def judge(_output: Any) -> Verdict:
        asked.append(1)
        return Verdict.passed() if asked[1:] else Verdict.failed("INCOMPLETE", f"say less than {SECRET}", reason=f"it said {SECRET}")

    return StepRule(verifier=judge)


def leaks(folder: Path) -> list[tuple[str, str]]:
    """Return (file, spelling) for each spelling of the secret in a file."""
    return [(file.name, name) for file in sorted(folder.iterdir()) for name, form in traces().items() if form in file.read_bytes()]


@pytest.mark.filterwarnings("ignore:the effect of:surefoot.SurefootWarning")
def test_as_67_secrets_reach_no_file_after_sigkill(tmp_path: Path) -> None:
    """A process that handles the secret everywhere is killed with SIGKILL: no file of the store has it in any spelling."""
    pid = os.fork()
    if pid == 0:
        leaky(Guard(f"sqlite:///{tmp_path}/s.db", steps={"s": strict_once()}))
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert {file.name for file in tmp_path.iterdir()} >= {"s.db", "s.db-wal"}
    assert leaks(tmp_path) == []


@pytest.mark.filterwarnings("ignore:the effect of:surefoot.SurefootWarning")
def test_as_67_an_unregistered_secret_is_found_by_this_very_search(tmp_path: Path) -> None:
    """Negative control: without the registration the same run leaves the secret in the file."""
    redaction._forms.clear()
    redaction._pattern = None
    guard = Guard(f"sqlite:///{tmp_path}/s.db")
    leaky(guard)
    guard.close()
    assert {name for _, name in leaks(tmp_path)} >= {"json", "hex", "base64 0"}


@pytest.mark.filterwarnings("ignore:the effect of:surefoot.SurefootWarning")
def test_as_67_secrets_reach_no_event_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Events as listeners see them, log records and what the ledger shows have no spelling of the secret."""
    seen: list[str] = []
    guard = Guard("memory://", on_event=lambda event: seen.append(repr(event)), steps={"s": strict_once()})
    with caplog.at_level(logging.DEBUG, "surefoot"):
        leaky(guard)
    told = "\n".join([*seen, caplog.text, *map(repr, guard.calls.list()), *map(repr, guard.runs.list())])
    assert [name for name, form in traces().items() if form.decode(errors="replace") in told] == []
    assert "[redacted:key]" in told


def test_as_67_calls_with_secrets_are_still_recognised(tmp_path: Path) -> None:
    """The same call with the secret in it, asked for again after the run was closed open, is the same call: 1 effect."""
    effects: list[int] = []
    for _ in range(2):
        guard = Guard(f"sqlite:///{tmp_path}/s.db", tools={"pay": ToolRule(effect="unsafe", key=["card"])})
        spec = RunSpec("test", "default", None, "input", {}, "d", NOTHING, Do(dict), lambda e: e)
        run = guard.drive(open_run(guard, spec)).run

        def body(frame: Any, guard: Guard = guard) -> Any:
            return guard.call(frame, Request("pay", {"card": SECRET}, None), lambda: effects.append(1))

        guard.drive(step(guard, StepSpec(run, None, "s#1", "s", {}, "d"), lambda frame, body=body: Do(lambda: body(frame))))  # type: ignore[misc]
        guard.close()
    assert effects == [1]


def test_as_67_digests_are_keyed(tmp_path: Path) -> None:
    """Two stores give one value two digests: who has the rows cannot try values out; one store gives it one, for ever."""
    one, two = (Guard(f"sqlite:///{tmp_path}/{name}.db").codec.digest(1234) for name in "ab")
    assert one != two
    assert Guard(SqliteStore(f"sqlite:///{tmp_path}/a.db")).codec.digest(1234) == one
    assert (tmp_path / "a.db.key").stat().st_mode & 0o777 == 0o600


def test_a_store_whose_key_is_gone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its key no request of a store would be recognised: it is refused with what to do, never given a new key."""
    url = f"sqlite:///{tmp_path}/s.db"
    SqliteStore(url).digest_key()
    key = tmp_path / "s.db.key"
    kept = key.read_text()
    key.unlink()
    with pytest.raises(StoreUnavailable, match="restore it"):
        SqliteStore(url).digest_key()
    monkeypatch.setenv("SUREFOOT_DIGEST_KEY", "another")
    with pytest.raises(StoreUnavailable, match="another digest key"):
        SqliteStore(url).digest_key()
    monkeypatch.setenv("SUREFOOT_DIGEST_KEY", kept)
    assert SqliteStore(url).digest_key() == kept.encode()


def test_an_empty_key_is_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty key file is refused with what to do, and an empty variable says nothing: no key moves into the rows in silence."""
    key = tmp_path / "s.db.key"
    key.touch()
    with pytest.raises(StoreUnavailable, match="missing or empty"):
        SqliteStore(f"sqlite:///{tmp_path}/s.db").digest_key()
    key.unlink()
    monkeypatch.setenv("SUREFOOT_DIGEST_KEY", "")
    store = SqliteStore(f"sqlite:///{tmp_path}/s.db")
    assert store.digest_key() == key.read_bytes()
    assert store.run(lambda tx: tx.records.get("surefoot", "digest_key")).value["key"] is None


@pytest.mark.parametrize("name", [{"thread": f"of {SECRET}"}, {"thread": None, "tenant": SECRET}])
def test_as_67_a_secret_is_no_name(name: dict[str, Any]) -> None:
    """A thread or tenant whose name contains a secret is refused before anything is stored: names are not redacted."""
    guard = Guard("memory://")
    spec = RunSpec(
        **{"adapter": "t", "tenant": "default", **name}, kind="input", input={}, digest="d", head=NOTHING, behind=Do(dict), stop=str
    )
    with pytest.raises(UsageError, match="contains a registered secret") as refused:
        guard.drive(open_run(guard, spec))
    assert SECRET not in str(refused.value)
    assert guard.runs.list() == []


def test_a_short_secret_is_refused() -> None:
    """A secret that ordinary text would contain is refused by name."""
    with pytest.raises(UsageError, match="'pin' is shorter"):
        surefoot.register_secret("4711", name="pin")


@pytest.mark.parametrize(
    "value", [{"$str": SECRET}, {SECRET: {SECRET: [SECRET]}}, (SECRET, {SECRET}), SECRET.encode(), [{"$dict": SECRET}]]
)
def test_what_was_redacted_can_be_loaded(value: Any) -> None:
    """Whatever a redacted value looks like, it is a value: it loads, and no tag is forged by it."""
    codec = Guard("memory://").codec
    assert SECRET not in repr(codec.loads(codec.dumps(value)))


def test_a_registered_type_is_stored_as_it_is_while_secrets_are_looked_for() -> None:
    """A value whose type is a registered subclass of text or of a list comes back as that, if there is no secret in it."""

    class Pages(list[str]):
        """A list of its own."""

    codec = Guard("memory://").codec
    codec.register("pages", Pages, list, Pages)
    loaded = codec.loads(codec.dumps(Pages(["a", "b"]), whole=True))
    assert (type(loaded), loaded) == (Pages, ["a", "b"])
    assert SECRET not in codec.dumps(Pages([SECRET]))
