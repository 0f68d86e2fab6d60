"""A model as a verifier: whatever is no valid verdict is UNVERIFIED, and nothing stands in for the model (P15, AS-51)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from judging import asked, called
from provider import GOOD, FakeProvider, provider

from surefoot import Checkpoint, Guard, StepRule, UsageError, Verdict, VerdictStatus, register_secret
from surefoot_verifiers import llm

BAD = '{"verdict": "FAIL", "error_class": "HALLUCINATION", "hint": "Cite a source.", "confidence": 0.8}'
KEYS = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "AWS_BEARER_TOKEN_BEDROCK"]
PROVIDERS = ["openai", "anthropic", "gemini", "bedrock"]


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*KEYS, "SUREFOOT_VERIFIER_PROVIDER", "SUREFOOT_VERIFIER_MODEL", "SUREFOOT_VERIFIER_BASE_URL", "AWS_REGION", "AWS_PROFILE"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(name="fake")
def _fake() -> Iterator[FakeProvider]:
    with provider() as fake:
        yield fake


def at(fake: FakeProvider, name: str, **options: Any) -> Any:
    """Return a verifier that asks the fake provider through the SDK of this one."""
    url = f"{fake.url}/v1" if name == "openai" else fake.url
    return llm(f"{name}/judge-1", base_url=url, api_key="sk-test", **options)


# --- the verdict


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (GOOD, "PASS"),
        (f"```json\n{GOOD}\n```", "PASS"),
        (BAD, "FAIL"),
        ({"verdict": "PASS", "confidence": 0.9}, "PASS"),
        ("", "UNVERIFIED"),
        ("PASS", "UNVERIFIED"),
        ("I am sorry, but I cannot judge this.", "UNVERIFIED"),
        ("The answer is not supported by the evidence.", "UNVERIFIED"),
        (f"{GOOD} I hope this helps!", "UNVERIFIED"),
        (GOOD[:30], "UNVERIFIED"),
        ('{"confidence": 0.9}', "UNVERIFIED"),
        ('{"verdict": "PASS"}', "UNVERIFIED"),
        ('{"verdict": "pass", "confidence": 0.9}', "UNVERIFIED"),
        ('{"verdict": true, "confidence": 0.9}', "UNVERIFIED"),
        ('{"verdict": "PASS", "confidence": 100}', "UNVERIFIED"),
        ('{"verdict": "PASS", "confidence": "high"}', "UNVERIFIED"),
        ('{"verdict": "PASS", "confidence": 0.3}', "UNVERIFIED"),
        ('{"verdict": "PASS", "confidence": 0.9, "error_class": "GOAL_DRIFT"}', "UNVERIFIED"),
        ('{"verdict": "FAIL", "confidence": 0.9, "hint": "x"}', "UNVERIFIED"),
        ('{"verdict": "FAIL", "confidence": 0.9, "error_class": "BAD_VIBES"}', "UNVERIFIED"),
        (f"[{GOOD}]", "UNVERIFIED"),
        (None, "UNVERIFIED"),
        (1.0, "UNVERIFIED"),
        ([], "UNVERIFIED"),
    ],
)
def test_as_51_only_a_whole_valid_verdict_counts(reply: Any, status: str) -> None:
    """AS-51: words, half a reply, a missing field, a wrong type, a contradiction: UNVERIFIED; never PASS, and no hint for the model."""
    verdict = asked(llm(ask=lambda _system, _question: reply), "x")
    assert str(verdict.status) == status
    assert status != "UNVERIFIED" or verdict.hint == ""


def test_a_fail_has_its_class_and_its_hint() -> None:
    """What the model says becomes the verdict; the classes that it may name are the caller's."""
    verdict = asked(llm(ask=lambda *_: BAD), "x")
    assert verdict == Verdict.failed("HALLUCINATION", "Cite a source.", confidence=0.8)
    own = llm(ask=lambda *_: BAD.replace("HALLUCINATION", "RUDE"), classes=["RUDE"])
    assert asked(own, "x").error_class == "RUDE"


async def _coroutine(_system: str, _question: str) -> str:
    return GOOD


def test_any_callable_judges() -> None:
    """A plain function, a coroutine function, and a function that returns something to await."""
    for ask in (lambda *_: GOOD, _coroutine, lambda system, question: _coroutine(system, question)):  # noqa: PLW0108 - the third kind
        assert asked(llm(ask=ask), "x").status is VerdictStatus.PASS


def test_a_model_that_hangs_is_unverified() -> None:
    """After ``timeout`` seconds the verdict is UNVERIFIED; nobody waits for the thread that hangs."""
    released = threading.Event()
    verdict = asked(llm(ask=lambda *_: released.wait(), timeout=0.05), "x")
    released.set()
    assert verdict == Verdict.unverified("the model did not answer within 0.05 s")


# --- what it is shown


def shown(**more: Any) -> dict[str, Any]:
    """Return what a model is shown of an output."""
    seen: list[str] = []
    options = more.pop("options", {})
    asked(
        llm(ask=lambda _system, question: seen.append(question) or GOOD, **options), more.pop("output", "x"), more.pop("calls", ()), **more
    )  # type: ignore[func-returns-value]
    found: dict[str, Any] = json.loads(seen[0])
    return found


def test_the_model_sees_goal_input_history_and_receipts_as_data() -> None:
    """Earlier outputs and receipts are in the order of time, and everything is one JSON object."""
    before = [Checkpoint("run", f"s{n}#1", "", 1, 1, "d", f'"out {n}"', "null", created=float(n)) for n in (1, 2)]
    seen = shown(output={"answer": 4}, input="2+2", goal="add", earlier=before, calls=[called("add", updated=1.5)])
    assert (seen["goal"], seen["input"], seen["output"]) == ("add", "2+2", '{"answer": 4}')
    assert [item.get("earlier_step") or item.get("receipt") for item in seen["history"]] == ["s1#1", "add", "s2#1"]
    assert seen["history_is_complete"] is True


def test_history_is_within_its_budget_the_newest_first() -> None:
    """What does not fit is left out from the oldest on, and the model is told; a long input is cut; the output never is."""
    before = [Checkpoint("run", f"s{n}#1", "", 1, 1, "d", json.dumps("x" * 300), "null", created=float(n)) for n in range(1, 30)]
    seen = shown(earlier=before, options={"history_tokens": 500})
    assert [item["earlier_step"] for item in seen["history"]] == ["s26#1", "s27#1", "s28#1", "s29#1"]
    assert seen["history_is_complete"] is False
    assert len(json.dumps(shown(input="y" * 99_999, options={"history_tokens": 500}))) < 2000
    assert asked(llm(ask=lambda *_: GOOD, output_tokens=10), "z" * 100).status is VerdictStatus.UNVERIFIED


def test_a_registered_secret_is_not_shown() -> None:
    """I23: what is judged leaves the machine without registered secrets."""
    register_secret("hunter2-hunter2")
    assert "hunter2" not in json.dumps(shown(output="the password is hunter2-hunter2"))


# --- the official SDKs, against a server that speaks their wire formats


@pytest.mark.parametrize("name", PROVIDERS)
def test_each_sdk_asks_at_temperature_0_and_reads_the_verdict(fake: FakeProvider, name: str) -> None:
    """The request has the model, temperature 0 and the instructions apart from what is judged; PASS and FAIL arrive."""
    verifier = at(fake, name)
    assert asked(verifier, "x").status is VerdictStatus.PASS
    fake.text = BAD
    assert asked(verifier, "x").error_class == "HALLUCINATION"
    path, request = fake.requests[0]
    text = json.dumps(request)
    assert "judge-1" in path + text
    assert '"temperature": 0' in text
    assert "You judge the output" in text


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("says", ["429", "500", "503", "401", "refuse", "cut off", "truncate", "nothing"])
def test_as_51_no_trouble_of_a_provider_is_a_verdict(fake: FakeProvider, name: str, says: str) -> None:
    """AS-51: whatever goes wrong is UNVERIFIED, asked once, and none of the provider's words are in hint or reason."""
    fake.says = says
    verdict = asked(at(fake, name), "x")
    assert verdict.status is VerdictStatus.UNVERIFIED
    assert len(fake.requests) == 1
    assert "secret words" not in verdict.hint + verdict.reason


@pytest.mark.parametrize("name", PROVIDERS)
def test_as_51_a_provider_that_hangs_is_unverified(fake: FakeProvider, name: str) -> None:
    """AS-51: a provider that accepts the request and never answers is UNVERIFIED after the timeout."""
    fake.says = "hang"
    assert asked(at(fake, name, timeout=0.2), "x").status is VerdictStatus.UNVERIFIED


def test_a_provider_that_is_not_there_is_unverified() -> None:
    """Nobody listens at the address: UNVERIFIED."""
    verifier = llm("openai/judge-1", base_url="http://127.0.0.1:9/v1", api_key="sk-test")
    assert asked(verifier, "x").status is VerdictStatus.UNVERIFIED


def test_an_openai_compatible_endpoint_needs_no_key(fake: FakeProvider) -> None:
    """For vLLM and its like a base URL is enough; ``options=`` adds to the request, replaces and leaves out."""
    verifier = llm("openai/local", base_url=f"{fake.url}/v1", options={"seed": 7, "temperature": None})
    assert asked(verifier, "x").status is VerdictStatus.PASS
    request = fake.requests[0][1]
    assert (request["seed"], request.get("temperature"), request["model"]) == (7, None, "local")


def test_provider_and_model_come_from_the_environment(fake: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """``StepRule(verifier="llm")`` takes model, provider and endpoint from the environment; one key names its provider."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    monkeypatch.setenv("SUREFOOT_VERIFIER_MODEL", "judge-2")
    monkeypatch.setenv("SUREFOOT_VERIFIER_BASE_URL", fake.url)
    guard = Guard("memory://", steps={"a": StepRule(verifier="llm")})
    assert asked(guard.verifier(guard.step_rule("a")), "x").status is VerdictStatus.PASS
    assert fake.requests[0][0].endswith("/messages")
    assert fake.requests[0][1]["model"] == "judge-2"


@pytest.mark.parametrize(
    ("spec", "environment", "says"),
    [
        ("llm", {}, "which model"),
        ("llm:judge-1", {}, "the environment has no provider's key"),
        ("llm:judge-1", {"OPENAI_API_KEY": "a", "GEMINI_API_KEY": "b"}, "keys of openai and gemini"),
        ("llm:openai/judge-1", {}, "set OPENAI_API_KEY"),
        ("llm:anthropic/judge-1", {"OPENAI_API_KEY": "a"}, "set ANTHROPIC_API_KEY"),
        ("llm:gemini/judge-1", {}, "set GEMINI_API_KEY"),
        ("llm:acme/judge-1", {}, "no provider 'acme'"),
        ("llm:judge-1", {"SUREFOOT_VERIFIER_PROVIDER": "acme"}, "no provider 'acme'"),
    ],
)
def test_a_missing_model_key_or_provider_is_an_error_not_rules(
    spec: str, environment: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be asked is refused when the guard is made; nothing falls back to rules in silence."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=says):
        Guard("memory://", steps={"a": StepRule(verifier=spec)})


def test_a_missing_sdk_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the SDK the error says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "anthropic", None)
    with pytest.raises(UsageError, match=r"surefoot\[anthropic\]"):
        llm("anthropic/judge-1", api_key="sk-test")


@pytest.mark.parametrize("options", [{"timeout": 0}, {"history_tokens": -1}, {"classes": "RUDE"}, {"model": "m", "ask": print}])
def test_an_option_that_cannot_work_is_refused(options: Any) -> None:
    """No time, a negative budget, a text for a list, two judges at once: a UsageError."""
    with pytest.raises(UsageError):
        llm(**{"ask": lambda *_: GOOD, **options})
