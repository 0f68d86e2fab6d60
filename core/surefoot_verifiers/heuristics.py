"""Signs of a defective text that are guesses: none is on unless it is named, and each has its rates published.

Each looks at a text and returns what the next attempt should be told, or ``None``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Final

__all__ = ["HEURISTICS", "broken_json"]

_LINES: Final = 5
_WORDS: Final = 12
_PROSE: Final = 8
_PLACEHOLDER: Final = re.compile(
    r"\[(?:insert|your|enter|add|todo|tbd|company|client|customer|recipient|date|name)\b[^\]\n]{0,40}\](?!\()"
    r"|\{\{\s*\w+(?:\.\w+)*\s*\}\}|<(?:insert|your)[ _-][^>\n]{1,40}>|\blorem ipsum\b|\bTODO:|\bTBD\b",
    re.IGNORECASE,
)
_REFUSAL: Final = re.compile(
    r"\A\W*(?:(?:i'?m|i am) (?:very |so |really )?(?:sorry|afraid)[^.\n]{0,40}?\b(?:can(?:no|')?t|unable|not able)\b"
    r"|i can(?:no|')t (?:help|assist|comply|do that|provide|fulfil)|as an ai(?: language)? model|i(?:'m| am) (?:unable|not able) to (?:help|assist|comply|provide))",
    re.IGNORECASE,
)
_ERROR: Final = re.compile(
    r"\A\s*Traceback \(most recent call last\):.*\n\w[\w.]*(?:Error|Exception|Interrupt|Exit)\b[^\n]*\s*\Z", re.DOTALL
)
_STATUS: Final = re.compile(r"\A\W*(?:error(?= ?:)|http error|internal server error|request failed)[^\n]{0,160}\s*\Z", re.IGNORECASE)
_CONTROL: Final = re.compile(r"<\|(?:im_start|im_end|endoftext|eot_id|start_header_id|assistant|user|system)\|>|\[/?INST\]|<</?SYS>>")
_MOJIBAKE: Final = re.compile("\N{REPLACEMENT CHARACTER}|Ã[\u0080-\u00bf©¼¶¤±¡³]|â€[™œ\u009d“”¦]")
_DANGLING: Final = frozenset(
    [
        "and",
        "or",
        "but",
        "the",
        "a",
        "an",
        "of",
        "to",
        "with",
        "because",
        "for",
        "from",
        "in",
        "on",
        "at",
        "by",
        "that",
        "which",
        "is",
        "are",
        "was",
        "were",
        "if",
        "when",
        "as",
        "into",
    ]
)


def broken_json(text: str) -> str | None:
    """Find a text that is JSON up to its end and stops before the document does. No guess: no other text is like that."""
    stripped = text.strip()
    if stripped[:1] not in {"{", "["} or len(stripped) == 1:
        return None
    try:
        json.loads(stripped)
    except ValueError:
        return "The JSON stops before its end. Answer with the whole document." if _is_prefix(stripped) else None
    return None


_TOKEN: Final = re.compile(
    r'\s*(?:([{}\[\]:,])|("(?:[^"\\\x00-\x1f]|\\.)*")|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)|("(?:[^"\\\x00-\x1f]|\\.)*\\?\Z))'
)
_REST: Final = re.compile(r"\s*(?:-|t|tr|tru|f|fa|fal|fals|n|nu|nul)?\Z")


def _is_prefix(text: str) -> bool:  # noqa: C901 - one case for each token, as the grammar has them
    """Return whether a text is the beginning of a JSON object or array that is longer."""
    closing: list[str] = []
    wants, at = "value", 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            return wants in {"value", "first"} and _REST.match(text, at) is not None
        at = token.end()
        mark, whole, scalar, cut = token.groups()
        if cut is not None:
            return wants in {"value", "first", "key", "first key"}
        if wants in {"value", "first"} and (mark in {"{", "["}):
            closing.append("}" if mark == "{" else "]")
            wants = "first key" if mark == "{" else "first"
        elif (wants == "first" and mark == "]") or (wants == "first key" and mark == "}") or (wants == "more" and mark == closing[-1]):
            closing.pop()
            wants = "more"
        elif wants in {"key", "first key"} and whole is not None:
            wants = "colon"
        elif wants in {"value", "first"} and (whole or scalar) is not None:
            wants = "more"
        elif wants == "colon" and mark == ":":
            wants = "value"
        elif wants == "more" and mark == ",":
            wants = "key" if closing[-1] == "}" else "value"
        else:
            return False
        if not closing:
            return False
    return True


def placeholders(text: str) -> str | None:
    """Find what was to be filled in and was not: ``[Your Name]``, ``{{ customer }}``, ``TODO:``, ``TBD``."""
    found = _PLACEHOLDER.search(text)
    return f"{found[0]!r} was not filled in. Fill it in, or leave it out." if found else None


def refusal(text: str) -> str | None:
    """Find a text that begins with a refusal."""
    return "The last output was a refusal. Do what can be done of the task, and say what cannot." if _REFUSAL.match(text) else None


def error_text(text: str) -> str | None:
    """Find a text that is nothing but an error: a whole traceback, or one line that begins with the word."""
    if _ERROR.match(text) or _STATUS.match(text):
        return "The last output was an error message, not an answer. Deal with the error and answer."
    return None


def repetition(text: str) -> str | None:
    """Find a text that got stuck: one line five times running, or one to four words over and over for a dozen words."""
    lines = [line.strip() for line in text.splitlines() if len(line.strip()) > 1 and any(map(str.isalpha, line))]
    stuck = any(len(list(group)) >= _LINES for _, group in groupby(lines))
    words = text.lower().split()
    for size in range(1, 5):
        run = 0
        for one, other in zip(words, words[size:], strict=False):
            run = run + 1 if one == other and one.isalpha() else 0
            stuck = stuck or run + size >= _WORDS
    return "The last output repeats itself. Say each thing once." if stuck else None


def unclosed_fence(text: str) -> str | None:
    """Find a code block that is opened and not closed."""
    fences = sum(1 for line in text.splitlines() if line.lstrip().startswith("```"))
    return "A code block is not closed: the output was cut off. Answer in full." if fences % 2 else None


def cut_off(text: str) -> str | None:
    """Find prose that stops in the middle: at a comma, an open bracket, a hyphen, or a word that needs another."""
    words = text.split()
    if len(words) < _PROSE:
        return None
    last = words[-1]
    if last[-1] in ",(-" or last.lower() in _DANGLING:
        return f"The output stops at {last!r}. Answer in full."
    return None


def control_tokens(text: str) -> str | None:
    """Find tokens of a chat template that leaked into the text."""
    found = _CONTROL.search(text)
    return f"The output contains {found[0]!r}, a token of the chat format. Answer in plain text." if found else None


def mojibake(text: str) -> str | None:
    """Find text that was decoded with the wrong encoding."""
    return "The output has characters that were decoded wrongly. Write them as they are meant." if _MOJIBAKE.search(text) else None


HEURISTICS: Final[Mapping[str, tuple[str, Callable[[str], str | None]]]] = {
    "placeholders": ("INCOMPLETE", placeholders),
    "refusal": ("INCOMPLETE", refusal),
    "error_text": ("INCOMPLETE", error_text),
    "repetition": ("INCOMPLETE", repetition),
    "unclosed_fence": ("INCOMPLETE", unclosed_fence),
    "cut_off": ("INCOMPLETE", cut_off),
    "control_tokens": ("SCHEMA", control_tokens),
    "mojibake": ("SCHEMA", mojibake),
}
"""Name → class of error, and the function."""
