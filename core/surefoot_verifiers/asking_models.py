"""A model as a verifier: any callable, any OpenAI-compatible endpoint, Anthropic, Gemini, Bedrock."""

from __future__ import annotations

from typing import Any

from surefoot import Verifier

__all__ = ["llm"]


def llm(model: str | None = None, **options: Any) -> Verifier:
    """Return a verifier that asks a model; see :func:`surefoot_verifiers.models.judge.llm` for the options.

    Loads pydantic and the provider's SDK, so it is not loaded with surefoot.
    """
    from surefoot_verifiers.models import judge

    return judge.llm(model, **options)
