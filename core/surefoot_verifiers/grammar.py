"""Reading English: which sentences say that the speaker has just done something. Rules, no model; the rates are published."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["VERBS", "Claim", "claims_in"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that a text says was done."""

    action: str
    """What kind of thing: a key of :data:`VERBS`."""
    words: str
    """The sentence that says so."""


_FORMS: Final[Mapping[str, Mapping[str, str]]] = {
    "send": {
        "send": "sent", "email": "emailed|e-mailed", "mail": "mailed", "message": "messaged", "notify": "notified", "text": "texted",
        "forward": "forwarded", "reply": "replied", "invite": "invited", "sms": "smsed",
    },
    "post": {"post": "posted", "publish": "published", "tweet": "tweeted", "share": "shared"},
    "pay": {"pay": "paid", "charge": "charged", "transfer": "transferred", "bill": "billed", "wire": "wired"},
    "refund": {"refund": "refunded", "reimburse": "reimbursed", "credit": "credited"},
    "book": {"book": "booked", "reserve": "reserved", "order": "ordered", "purchase": "purchased", "buy": "bought"},
    "schedule": {"schedule": "scheduled", "reschedule": "rescheduled"},
    "cancel": {"cancel": "cancelled|canceled", "revoke": "revoked", "unsubscribe": "unsubscribed"},
    "delete": {"delete": "deleted", "remove": "removed", "erase": "erased", "drop": "dropped"},
    "create": {
        "create": "created", "add": "added", "open": "opened", "file": "filed", "register": "registered", "save": "saved",
        "upload": "uploaded", "write": "written|wrote", "insert": "inserted",
    },
    "update": {
        "update": "updated", "change": "changed", "edit": "edited", "set": "set", "rename": "renamed", "upgrade": "upgraded",
        "reset": "reset", "move": "moved", "assign": "assigned", "close": "closed", "modify": "modified", "escalate": "escalated",
    },
    "deploy": {"deploy": "deployed", "restart": "restarted", "merge": "merged", "release": "released", "push": "pushed", "install": "installed"},
    "submit": {"submit": "submitted", "approve": "approved", "sign": "signed", "process": "processed", "issue": "issued", "ship": "shipped"},
}  # fmt: skip
_RELATED: Final[Mapping[str, tuple[str, ...]]] = {
    "send": ("notification", "slack", "invitation"),
    "post": ("send",),
    "pay": ("payment",),
    "refund": ("payment",),
    "book": ("booking", "reservation"),
    "schedule": ("book", "create", "add", "calendar", "meeting", "appointment"),
    "create": ("make", "new", "put"),
    "update": ("put", "patch", "escalate", "ticket"),
    "deploy": ("deployment",),
    "submit": ("refund", "order", "pay", "payment", "file", "create", "send"),
}
VERBS: Final[Mapping[str, frozenset[str]]] = {action: frozenset(forms) | {*_RELATED.get(action, ())} for action, forms in _FORMS.items()}
"""Action → the words by which a tool's name shows that it does that."""
_ACTION: Final = {form: action for action, forms in _FORMS.items() for both in forms.values() for form in both.split("|")}
_DONE: Final = "|".join(sorted(_ACTION, key=len, reverse=True))

_QUOTED: Final = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|^\s*>.*$|“[^”]*”|(?<!\w)\"[^\"\n]*\"|(?<!\w)'[^'\n]{12,}'(?!\w)", re.DOTALL | re.MULTILINE
)
_SENTENCE: Final = re.compile(r"[^.!?;\n]*(?:[.](?=\w)[^.!?;\n]*)*[.!?;\n]?")
_BULLET: Final = re.compile(r"^[\s\-*•+#>|✅✔☑🎉✓]*(?:\d+[.)]\s+)?(?:\*\*)?")
_OPENING: Final = re.compile(
    r"^(?:(?:done|ok|okay|great|sure|certainly|alright|all set|all done|good news|perfect|hi|hello|update|status|result|summary|and|so|also|then|finally|next|first|second)\b"
    r"[\s,:.!—–-]*)+",
    re.IGNORECASE,
)
_UNREAL: Final = re.compile(
    r"\b(?:can|can't|cannot|could|couldn't|would|wouldn't|will|won't|shall|should|may|might|must|want|need|needs|going to|about to|plan|planning|"
    r"let me|please|if|once|when|whenever|after|before|until|unless|in case|assuming|suppose|imagine|how to|to be|(?<![@.])example(?![.@])|template|sample|draft|e\.g|"
    r"would you|did you|have you|shall I|not|never|no|nothing|n't|unable|failed|fail|without|instead of|rather than|tried|attempted|almost|nearly|"
    r"cannot|haven't|hasn't|wasn't|weren't|didn't|isn't|aren't|try|remember|make sure|ensure|check that|verify that|says?|said|claims?|states?|"
    r"wrote that|reads?|pretend|role[- ]play|story|hypothetical)\b|'ll\b|'d\b",
    re.IGNORECASE,
)
_PAST_REPORT: Final = re.compile(
    r"\b(?:yesterday|ago|last (?:week|month|year|night|monday|tuesday|wednesday|thursday|friday|saturday|sunday|quarter|summer|spring|time)|"
    r"on (?:monday|tuesday|wednesday|thursday|friday|saturday|sunday|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|\d)\w*|"
    r"in (?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\w*|in (?:19|20)\d\d|since|historically|previously|originally|"
    r"by (?!me\b|email\b|e-mail\b|phone\b|post\b|mail\b)(?:the |your |our |his |her |their |its |a |an )?\w+)\b",
    re.IGNORECASE,
)
_ADVERBS: Final = (
    r"(?:(?:just|now|also|already|successfully|gone ahead and|since|then|safely|quickly|promptly|finally|hereby|first|both)\s+)*"
)
_OBJECT: Final = r"(?:the|your|a|an|it|this|that|these|those|them|him|her|you|his|my|our|their|all|both|everyone|everything|two|three|four|five|ten|another|\d[\d.,]*|[$€£]\s?\d|to|out|back|(?-i:[A-Z][\w&'-]*)|\S+@\S+)(?=\W|$)"
_FIRST: Final = re.compile(
    rf"\b(?:I|we)(?:'ve|’ve| have| had)?\s+{_ADVERBS}(?:gone ahead and\s+)?(?P<verb>{_DONE})\b(?!\s+by\b)", re.IGNORECASE
)
_ALSO: Final = re.compile(rf"\b(?:I|we)\b[^,;]*?(?:,\s*(?:and\s+)?|\s+and\s+){_ADVERBS}(?P<verb>{_DONE})\s+{_OBJECT}", re.IGNORECASE)
_ELIDED: Final = re.compile(rf"^{_ADVERBS}(?!(?:re)?set\b)(?P<verb>{_DONE})\s+(?P<object>{_OBJECT})", re.IGNORECASE)
_SHORT: Final = re.compile(rf"^{_ADVERBS}(?!(?:re)?set\b)(?P<verb>{_DONE})\s+[\w'-]*[^\Ws](?:\s+[\w'-]+)?[.!]?\s*$", re.IGNORECASE)
_PERFECT: Final = re.compile(rf"\b(?:has|have|'s|’s) {_ADVERBS}been {_ADVERBS}(?P<verb>{_DONE})\b", re.IGNORECASE)
_PASSIVE: Final = re.compile(
    rf"\b(?:was|were|is|are) (?:now |successfully |just )+(?P<verb>{_DONE})\b|\b(?:was|were|is|are) (?P<verb2>{_DONE}) (?:successfully|just now)\b",
    re.IGNORECASE,
)
_NOUN: Final = re.compile(
    rf"^(?:(?:the|your|a|an)\s+)?(?:[\w'#-]+\s+){{1,3}}(?:successfully\s+)?(?P<verb>{_DONE})(?:\s+successfully)?(?:\s+(?:to|for|at|in|on|with|from)\s+[\w@.'#-]+(?:\s+[\w@.'#-]+){{0,2}})?\s*[.!]?\s*$",
    re.IGNORECASE,
)
_FINITE: Final = re.compile(
    r"\b(?:is|are|was|were|be|has|have|appear|appears|contains?|shows?|means?|you|he|she|they|who|which|that)\b", re.IGNORECASE
)
_CLAUSE: Final = re.compile(r"(?:,\s*|\s+)(?:so|but|and then|then)\s+(?=(?:I|we)\b)", re.IGNORECASE)
_OTHERS: Final = re.compile(r"\b(?:which|who|that) (?:has|have|was|were)\b", re.IGNORECASE)


def claims_in(text: str) -> Iterator[Claim]:
    """Yield what a text claims that the speaker has done: in the first person, with the subject left out, or in the passive.

    Quotations, code, questions, conditions, plans, negations and reports with another agent or a past date are left out.
    """
    for found in _SENTENCE.finditer(_QUOTED.sub(" ‹quoted› ", text)):
        sentence = _BULLET.sub("", found[0]).replace("**", "").strip()
        verb = _claimed(sentence) if sentence and not sentence.endswith("?") else None
        if verb is not None:
            yield Claim(_ACTION[verb.lower()], sentence[:200])


def _claimed(sentence: str) -> str | None:
    """Return the verb of the claim that a sentence makes."""
    sentence = _CLAUSE.split(sentence)[-1]
    first = _FIRST.search(sentence)
    if first is not None:
        return None if _UNREAL.search(sentence, 0, first.end()) or _PAST_REPORT.search(sentence) else first["verb"]
    if _UNREAL.search(sentence) or _PAST_REPORT.search(sentence) or _OTHERS.search(sentence):
        return None
    also = _ALSO.search(sentence)
    if also is not None:
        return also["verb"]
    plain = _OPENING.sub("", sentence)
    elided = _ELIDED.match(plain) or _SHORT.match(plain)
    if elided is not None:
        return None if _FINITE.search(plain, elided.end("verb"), elided.end("verb") + 24) else elided["verb"]
    passive = _PERFECT.search(plain) or _PASSIVE.search(plain)
    if passive is not None:
        return next(verb for verb in passive.groupdict().values() if verb)
    noun = _NOUN.match(plain)
    return noun["verb"] if noun is not None and not _FINITE.search(plain) else None
