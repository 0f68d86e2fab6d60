"""The verifier that asks a model. What is no valid verdict is UNVERIFIED; rules never stand in for the model."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import threading
from collections.abc import Callable, Collection, Mapping
from contextvars import copy_context
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from surefoot import ErrorClass, StepOutput, UsageError, Verdict, VerdictStatus, Verifier
from surefoot.types import are_texts, expect
from surefoot_verifiers.models import prompt
from surefoot_verifiers.models.providers import Ask, NoAnswer, Settings, provider_for
from surefoot_verifiers.taxonomy import DRIFT

__all__ = ["llm"]

_FENCED: Final = re.compile(r"\A\s*```(?:json)?\s*(\{.*\})\s*```\s*\Z", re.DOTALL)
_LONGEST_HINT: Final = 600


class _Said(BaseModel):
    """A model's verdict, as it has to be."""

    model_config = ConfigDict(strict=True, extra="ignore")

    verdict: Literal["PASS", "FAIL"]
    confidence: float = Field(ge=0, le=1)
    error_class: str | None = None
    hint: str = ""
    reason: str = ""


class _Model(Verifier):
    def __init__(self, ask: Ask, classes: Collection[str], more: str, budget: Mapping[str, Any], timeout: float, least: float) -> None:
        self._ask = ask
        self._classes = classes
        self._system = prompt.instructions(classes, more)
        self._budget = budget
        self._timeout = timeout
        self.timeout = timeout + 1  # the engine waits a little longer than the verifier does
        self._least = least

    async def verify(self, output: StepOutput) -> Verdict:
        """Ask the model for a verdict on the output."""
        try:
            question = prompt.prompt(output, **self._budget)
        except prompt.TooLong as exc:
            return Verdict.unverified(str(exc))
        try:
            reply = await asyncio.wait_for(self._asked(question), self._timeout)
        except TimeoutError:
            return Verdict.unverified(f"the model did not answer within {self._timeout:g} s")
        except NoAnswer as exc:
            return Verdict.unverified(str(exc))
        except Exception as exc:  # noqa: BLE001 - an SDK's error is not a verdict, and its text may quote a key
            status = getattr(exc, "status_code", None) or getattr(exc, "code", None)
            return Verdict.unverified(f"the model could not be asked: {type(exc).__name__}" + (f" (HTTP {status})" if status else ""))
        return self._verdict(reply)

    async def _asked(self, question: str) -> Any:
        """Ask in a thread that nobody waits for longer than the timeout, or await what is asynchronous."""
        if inspect.iscoroutinefunction(self._ask):
            return await self._ask(self._system, question)
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Any] = loop.create_future()

        def tell(set_it: Callable[[Any], None], what: Any) -> None:
            if not answered.done():
                set_it(what)

        def work() -> None:
            try:
                what: Any = self._ask(self._system, question)
                set_it: Callable[[Any], None] = answered.set_result
            except BaseException as exc:  # noqa: BLE001 - it is the caller's
                what, set_it = exc, answered.set_exception
            if not loop.is_closed():
                loop.call_soon_threadsafe(tell, set_it, what)

        threading.Thread(target=copy_context().run, args=(work,), name="surefoot-judge", daemon=True).start()
        reply = await answered
        return await reply if inspect.isawaitable(reply) else reply

    def _verdict(self, reply: Any) -> Verdict:
        """Return what a reply says; one that says nothing valid is UNVERIFIED."""
        if isinstance(reply, Verdict):
            return reply
        if isinstance(reply, str):
            fenced = _FENCED.match(reply)
            reply = fenced[1] if fenced else reply
        try:
            said = _Said.model_validate_json(reply) if isinstance(reply, str | bytes) else _Said.model_validate(reply)
        except ValidationError as exc:
            return Verdict.unverified(f"the reply is no verdict: {exc.errors(include_input=False, include_url=False)[0]['msg']}")
        if said.verdict == "PASS":
            if said.error_class not in {None, "", "NONE", "None"}:
                return Verdict.unverified("the reply says PASS and names an error")
            if said.confidence < self._least:
                return Verdict.unverified(f"the model passes it with confidence {said.confidence:.2f}, under {self._least:g}")
            return Verdict(VerdictStatus.PASS, confidence=said.confidence, reason=said.reason)
        if said.error_class not in self._classes:
            return Verdict.unverified("the reply says FAIL and names no known class of error")
        return Verdict.failed(str(said.error_class), said.hint[:_LONGEST_HINT], confidence=said.confidence, reason=said.reason)


def llm(
    model: str | None = None,
    *,
    provider: str | None = None,
    ask: Ask | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout: float = 30.0,
    history_tokens: int = 2000,
    output_tokens: int = 16_000,
    count: Callable[[str], int] = prompt.tokens,
    classes: Collection[str] = (*ErrorClass, DRIFT),
    instructions: str = "",
    min_confidence: float = 0.5,
    options: Mapping[str, Any] | None = None,
) -> Verifier:
    """Return a verifier that asks a model, at temperature 0.

    :param model: ``provider/model`` or the model alone; default ``SUREFOOT_VERIFIER_MODEL``. There is no built-in choice.
    :param provider: ``openai``, ``anthropic``, ``gemini`` or ``bedrock``; default ``SUREFOOT_VERIFIER_PROVIDER``, else the only one
        that the environment has a key of. :param api_key: default its usual environment variable.
    :param base_url: another endpoint that speaks the provider's wire format; default ``SUREFOOT_VERIFIER_BASE_URL``.
    :param ask: in place of all that, a function of (instructions, what is judged) that returns the model's text; sync or async.
    :param timeout: seconds for one answer. :param history_tokens: how much of input, earlier outputs and receipts is shown.
    :param output_tokens: a longer output is UNVERIFIED, not cut. :param count: counts the tokens of a text.
    :param classes: the classes of error that the model may name. :param instructions: more of them, yours.
    :param min_confidence: a PASS under it is UNVERIFIED.
    :param options: more of the request, in the provider's own terms; ``None`` leaves a field out.

    A refusal, a reply that is cut off, no JSON or not of the right form, an error of the provider: UNVERIFIED. Raises
    :class:`~surefoot.UsageError` for an unknown provider, and where a model, a key or the SDK is missing.
    """
    expect("timeout", timeout, "a number of seconds above 0", lambda given: isinstance(given, float | int) and given > 0)
    expect("classes", classes, "a list of classes of error", are_texts)
    for name, given in (("history_tokens", history_tokens), ("output_tokens", output_tokens)):
        expect(name, given, "a number of tokens, 0 or more", lambda n: isinstance(n, int) and n >= 0)
    if ask is None:
        model = model or os.environ.get("SUREFOOT_VERIFIER_MODEL")
        provider = provider or os.environ.get("SUREFOOT_VERIFIER_PROVIDER")
        if provider is None and model is not None and "/" in model:
            provider, _, model = model.partition("/")
        if not model:
            raise UsageError("which model should judge? name it, as in 'llm:openai/MODEL', or set SUREFOOT_VERIFIER_MODEL")
        where = base_url or os.environ.get("SUREFOOT_VERIFIER_BASE_URL")
        ask = provider_for(provider, Settings(model, api_key, where, float(timeout), options or {}))
    elif model or provider or base_url or api_key or options:
        raise UsageError("give either ask=, a function of your own, or the model of a provider, not both")
    budget = {"history_tokens": history_tokens, "output_tokens": output_tokens, "count": count}
    return _Model(ask, [str(one) for one in classes], instructions, budget, float(timeout), min_confidence)
