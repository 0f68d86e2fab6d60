"""Forty encodings of a secret, made without the code under test; as a program, a process that has the secret everywhere and is killed.

``canaries.py FOLDER POLICY``: the secret is in the environment as ``CANARY``.
"""

from __future__ import annotations

import base64
import codecs
import html
import json
import logging
import os
import quopri
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

import surefoot
import surefoot_policy
from surefoot import Guard, StepRule, SurefootError, Verdict
from surefoot_policy import usage

__all__ = ["SECRET", "encodings", "needles"]

SECRET = 'sk-live/"canary"+ünlikely &<7>?~?>~'  # noqa: S105 - a canary


def _percent(text: str, *, upper: bool = True) -> str:
    quoted = quote(text.encode(), safe="")
    head, *parts = quoted.split("%")
    return head + "".join(f"%{p[:2] if upper else p[:2].lower()}{p[2:]}" for p in parts)


def encodings(secret: str = SECRET) -> dict[str, str]:
    """Return the forty."""
    raw = secret.encode()
    pairs = [format(byte, "02x") for byte in raw]
    text, plain = json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]
    found = {
        "raw": secret,
        "json": text,
        "json utf-8": plain,
        "json in json": json.dumps(text)[1:-1],
        "json utf-8 in json": json.dumps(plain, ensure_ascii=False)[1:-1],
        "json in json in json": json.dumps(json.dumps(text)[1:-1])[1:-1],
        "unicode escapes": "".join(f"\\u{ord(char):04x}" for char in secret),
        "unicode escapes, upper": "".join(f"\\u{ord(char):04X}" for char in secret),
        "python ascii": ascii(secret)[1:-1],
        "url": _percent(secret),
        "url, lower": _percent(secret, upper=False),
        "url of a path": quote(raw),
        "url of a form": quote_plus(raw),
        "url twice": quote(quote(raw, safe=""), safe=""),
        "url, every byte": "".join(f"%{pair}" for pair in pairs),
        "url, every byte, upper": "".join(f"%{pair.upper()}" for pair in pairs),
        "hex": "".join(pairs),
        "hex, upper": "".join(pairs).upper(),
        "hex with colons": ":".join(pairs),
        "hex with colons, upper": ":".join(pairs).upper(),
        "hex with spaces": " ".join(pairs),
        "hex with dashes": "-".join(pairs),
        "hex escapes": "".join(f"\\x{pair}" for pair in pairs),
        "octal escapes": "".join(f"\\{byte:03o}" for byte in raw),
        "html": html.escape(secret),
        "html, decimal": "".join(f"&#{ord(char)};" for char in secret),
        "html, hex": "".join(f"&#x{ord(char):x};" for char in secret),
        "quoted printable": quopri.encodestring(raw, quotetabs=True).decode(),
        "reversed": secret[::-1],
        "rot13": codecs.encode(secret, "rot13"),
        "utf-16 in hex": secret.encode("utf-16-le").hex(),
    }
    raw += b"\0" * (-len(raw) % 4)  # what encoders of groups see
    found["base85"] = base64.b85encode(raw).decode()
    for name, encode, places in _IN_GROUPS:
        found |= {f"{name} at {place}": encode(b"." * place + secret.encode() + b"....").decode() for place in range(places)}
    return found


_IN_GROUPS: list[tuple[str, Callable[[bytes], bytes], int]] = [
    ("base64", base64.b64encode, 3),
    ("base64url", base64.urlsafe_b64encode, 3),
    ("base32", base64.b32encode, 2),
]


def needles(secret: str = SECRET) -> dict[str, str]:
    """Return what to look for: of what depends on the text around it, the part that does not, found by exchanging that text."""
    found = encodings(secret)
    for name, encode, places in _IN_GROUPS:
        for place in range(places):
            other = encode(b"~" * place + secret.encode() + b"~~~~").decode()
            pairs = list(zip(found[f"{name} at {place}"], other, strict=True))
            same = [n for n, (one, two) in enumerate(pairs) if one == two]
            longest = max(_stretches(same), key=len)
            found[f"{name} at {place}"] = "".join(pairs[n][0] for n in longest)
    found["base85"] = base64.b85encode(secret.encode()[: len(secret.encode()) // 4 * 4]).decode()
    return found


def _stretches(numbers: list[int]) -> list[list[int]]:
    found: list[list[int]] = [[]]
    for number in numbers:
        if found[-1] and number != found[-1][-1] + 1:
            found.append([])
        found[-1].append(number)
    return found


FORMS = list(encodings().values())


def judge(output: Any) -> Verdict:
    """Reject the first output in words that have the secret."""
    return Verdict.passed() if output.attempt > 1 else Verdict.failed("INCOMPLETE", f"say less than {FORMS[0]}", reason=f"it said {FORMS}")


@surefoot.tool()
def send(nested: Any, note: str, data: bytes) -> Any:
    """Send."""
    return {"echo": note}


@surefoot.tool()
def broken(note: str) -> None:
    """Fail."""
    raise ConnectionError(f"POST with {note} failed")


@surefoot.tool(effect="unsafe")
def pay(note: str, amount: int = 1) -> str:
    """Pay."""
    return f"paid for {note}"


@surefoot.tool()
def erase(note: str, plan_token: str = "") -> str:
    """Erase."""
    return f"erased {note}"


def targets(call: surefoot.Call) -> list[Any]:
    """Return what would be erased."""
    return [call.arguments["note"], {call.arguments["note"]: 1}]


def leak(form: str) -> list[Any]:
    """Have a form of the secret in every place that a run has; return it."""
    said: list[Any] = [form]
    usage.record(model=form, input_tokens=1)
    for call in (
        lambda: send([{"innocent": f"https://u:{form}@host/?q={form}"}, {form: 1}], form, form.encode()),
        lambda: broken(form),
        lambda: pay(form),
        lambda: pay(form, amount=9),
        lambda: erase(form),
    ):
        try:
            said.append(call())
        except SurefootError as exc:
            traceback.print_exception(type(exc), exc.with_traceback(None), None)
            print(repr(exc), vars(exc), flush=True)
        except ConnectionError as exc:
            said.append(str(exc))
    return said


def main() -> None:
    """Do all of it, and die."""
    logging.basicConfig(level=logging.DEBUG)
    folder, policy = sys.argv[1:]
    sys.modules["canaries"] = sys.modules["__main__"]
    guard = Guard(
        f"sqlite:///{folder}/surefoot.db",
        policy=policy,
        steps={"leak": StepRule(verifier=judge)},
        on_event=lambda event: print(repr(event), flush=True),
    )
    wrapped = surefoot.wrap(leak, guard=guard)
    for number, form in enumerate(FORMS):
        for decide in (guard.approvals.deny, guard.approvals.approve):
            try:
                with surefoot.run(f"r{number}"):
                    wrapped(form)
            except SurefootError as exc:
                print(repr(exc), vars(exc), flush=True)
            for waits in guard.approvals.list():
                print(waits, waits.card(), flush=True)
                decide(waits.id, by=f"maria {form}", comment=f"because of {form}")
        run_id = guard.runs.list()[0].run_id
        surefoot_policy.stop(guard, run_id, by=form, reason=f"it says {form}")
        surefoot_policy.release(guard, run_id, by=form)
        guard.approvals.revoke(guard.approvals.grant("pay", by=f"by {form}", expires=60).id, by=form)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
