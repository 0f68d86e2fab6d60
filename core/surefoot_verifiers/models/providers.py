"""Who is asked: the official SDK of each provider, imported when it is first needed; no retries of its own, temperature 0."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from surefoot import UsageError

__all__ = ["PROVIDERS", "Ask", "NoAnswer", "Settings", "provider_for"]

_MOST_TOKENS: Final = 1024
Ask: TypeAlias = Callable[[str, str], Any]
"""Takes the instructions and what is to be judged; returns the model's text, or an awaitable of it."""


class NoAnswer(Exception):
    """The model was reached and gave no answer: it refused, was blocked, or was cut off. The message has none of its words."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How one model is asked."""

    model: str
    api_key: str | None
    base_url: str | None
    timeout: float
    """Seconds."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """More of the request, in the provider's own terms; replaces what surefoot says, and ``None`` leaves a field out."""

    def request(self, **fields: Any) -> dict[str, Any]:
        """Return the fields of a request."""
        return {name: value for name, value in {**fields, **self.options}.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider."""

    make: Callable[[Any, Settings], Ask]
    module: str
    package: str
    """On PyPI, and surefoot's extra."""
    keys: tuple[str, ...]
    """Environment variables with its key; the first is named in errors."""
    needs_key: bool = True


def _openai(sdk: Any, to: Settings) -> Ask:
    client = sdk.OpenAI(api_key=to.api_key or "none", base_url=to.base_url, timeout=to.timeout, max_retries=0)

    def ask(system: str, prompt: str) -> str:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
        reply = client.chat.completions.create(**to.request(model=to.model, messages=messages, temperature=0))
        if not reply.choices:
            raise NoAnswer("the reply has no choices")
        choice = reply.choices[0]
        if getattr(choice.message, "refusal", None):
            raise NoAnswer("the model refused")
        return _whole(choice.finish_reason, {"stop"}, choice.message.content)

    return ask


def _anthropic(sdk: Any, to: Settings) -> Ask:
    client = sdk.Anthropic(api_key=to.api_key, base_url=to.base_url, timeout=to.timeout, max_retries=0)

    def ask(system: str, prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        more = to.request(temperature=0)  # not every release of the SDK has a parameter for it
        reply = client.messages.create(model=to.model, system=system, messages=messages, max_tokens=_MOST_TOKENS, extra_body=more)
        return _whole(reply.stop_reason, {"end_turn", "stop_sequence"}, "".join(part.text for part in reply.content if part.type == "text"))

    return ask


def _gemini(sdk: Any, to: Settings) -> Ask:
    http = {"base_url": to.base_url, "timeout": int(to.timeout * 1000)}
    client = sdk.Client(api_key=to.api_key, vertexai=False, http_options=http)

    def ask(system: str, prompt: str) -> str:
        config = to.request(system_instruction=system, temperature=0, response_mime_type="application/json")
        reply = client.models.generate_content(model=to.model, contents=prompt, config=config)
        if not reply.candidates:
            raise NoAnswer("the provider blocked the prompt")
        found = reply.candidates[0]
        parts = (found.content.parts if found.content else None) or []
        return _whole(getattr(found.finish_reason, "name", found.finish_reason), {"STOP"}, "".join(part.text or "" for part in parts))

    return ask


def _bedrock(sdk: Any, to: Settings) -> Ask:
    from botocore.config import Config

    if sdk.Session().region_name is None:
        raise UsageError("Bedrock needs a region: set AWS_REGION or AWS_DEFAULT_REGION, or one in the AWS configuration")
    limits = Config(connect_timeout=to.timeout, read_timeout=to.timeout, retries={"total_max_attempts": 1})
    client = sdk.client("bedrock-runtime", endpoint_url=to.base_url, config=limits)

    def ask(system: str, prompt: str) -> str:
        messages = [{"role": "user", "content": [{"text": prompt}]}]
        inference = {"temperature": 0, "maxTokens": _MOST_TOKENS}
        request = to.request(modelId=to.model, system=[{"text": system}], messages=messages, inferenceConfig=inference)
        reply = client.converse(**request)
        parts = reply["output"]["message"]["content"]
        return _whole(reply["stopReason"], {"end_turn", "stop_sequence"}, "".join(part.get("text", "") for part in parts))

    return ask


def _whole(ended: Any, well: set[str], text: str | None) -> str:
    """Return the text of a reply that ended well."""
    if ended not in well:
        raise NoAnswer(f"the model stopped for {ended!r}")
    if not text:
        raise NoAnswer("the reply has no text")
    return text


PROVIDERS: Final[Mapping[str, Provider]] = {
    "openai": Provider(_openai, "openai", "openai", ("OPENAI_API_KEY",)),
    "anthropic": Provider(_anthropic, "anthropic", "anthropic", ("ANTHROPIC_API_KEY",)),
    "gemini": Provider(_gemini, "google.genai", "google-genai", ("GEMINI_API_KEY", "GOOGLE_API_KEY")),
    "bedrock": Provider(_bedrock, "boto3", "boto3", ("AWS_BEARER_TOKEN_BEDROCK",), needs_key=False),
}
"""``openai`` with a base URL is every endpoint that speaks its wire format: vLLM, and many more."""


def provider_for(name: str | None, to: Settings) -> Ask:
    """Return what asks a model of the provider: the one named, else the only one that the environment has a key of.

    Raises :class:`~surefoot.UsageError` for an unknown one, a missing key or SDK, and where the environment has keys of several.
    """
    name = name or _only_one()
    provider = PROVIDERS.get(name)
    if provider is None:
        raise UsageError(f"there is no provider {name!r}; take one of {', '.join(PROVIDERS)}, or give ask=, a function of your own")
    key = to.api_key or next((os.environ[variable] for variable in provider.keys if os.environ.get(variable)), None)
    if key is None and provider.needs_key and not (name == "openai" and to.base_url):
        raise UsageError(f"{name} needs a key: set {provider.keys[0]}, or give api_key=; nothing is verified by rules instead")
    try:
        sdk = importlib.import_module(provider.module)
    except ImportError as exc:
        raise UsageError(f"{name} needs its SDK; pip install 'surefoot[{provider.package}]'") from exc
    return provider.make(sdk, Settings(to.model, key, to.base_url, to.timeout, to.options))


def _only_one() -> str:
    found = [name for name, provider in PROVIDERS.items() if any(os.environ.get(key) for key in provider.keys)]
    if len(found) == 1:
        return found[0]
    have = f"the environment has keys of {' and '.join(found)}" if found else "the environment has no provider's key"
    raise UsageError(f"which model should judge? {have}: name it, as in 'llm:openai/MODEL', or set SUREFOOT_VERIFIER_PROVIDER")
