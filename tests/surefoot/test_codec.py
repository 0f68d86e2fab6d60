"""The codec: type-exact, total, data only; digests of meaning."""

from __future__ import annotations

import json
import math
import sys
import unicodedata
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from surefoot import IntegrityError, NotStorable, UsageError
from surefoot.codec import Codec, _plain

codec = Codec()

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.dates()
    | st.times()
    | st.datetimes()
    | st.timedeltas()
)
keys = st.text() | st.integers() | st.booleans() | st.sampled_from(["$", "$dict", "$bytes", "$tuple"])
values = st.recursive(
    scalars, lambda v: st.lists(v) | st.dictionaries(keys, v) | st.lists(v).map(tuple) | st.frozensets(st.integers()) | st.sets(st.text())
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec=None)),
    lambda v: st.lists(v) | st.dictionaries(st.text(st.characters(codec=None)), v),
)


def same(a: Any, b: Any) -> bool:
    """Return whether two values are equal in value and in every type."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return [*map(type, a)] == [*map(type, b)] and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@given(values)
def test_what_is_stored_comes_back_exactly(value: Any) -> None:
    """Loading returns an equal value of the same types, down to every leaf and key."""
    assert same(codec.loads(codec.dumps(value)), value)


@pytest.mark.parametrize(
    "value",
    [
        {"$bytes": "x"},
        {"$dict": []},
        {"$": 1},
        {"$str": [65]},
        float("inf"),
        -0.0,
        10**40,
        [-(10**5000)],
        "\ud800",
        datetime(2026, 1, 2, tzinfo=UTC),
        date(2026, 1, 2),
        time(1, 2, fold=1),
        timedelta(days=-1, microseconds=3),
        Decimal("1.10"),
        uuid.UUID(int=7),
        {1: "a", "1": "b", None: "c"},
    ],
)
def test_i24_a_tag_cannot_be_forged_by_user_data(value: Any) -> None:
    """User data that looks like a stored tag, and every odd value, is itself again after loading."""
    back = codec.loads(codec.dumps(value))
    assert same(back, value)
    assert math.copysign(1, back) == math.copysign(1, value) if isinstance(value, float) else True


@pytest.mark.parametrize(
    ("value", "path", "kind"),
    [
        ({"a": [1, {"b": object()}]}, "$.a[1].b", "builtins.object"),
        ([lambda: 0], "$[0]", "builtins.function"),
        ({("k",): {1: object()}}, "$[('k',)][1]", "builtins.object"),
    ],
)
def test_as_78_the_error_names_path_and_type(value: Any, path: str, kind: str) -> None:
    """What cannot be stored is refused with the path to it and the name of its type."""
    with pytest.raises(NotStorable) as caught:
        codec.dumps(value)
    assert (caught.value.path, caught.value.kind) == (path, kind)


def test_a_cycle_is_not_storable() -> None:
    """A value that contains itself is refused, without a RecursionError."""
    loop: list[Any] = []
    loop.append(loop)
    for use in (codec.dumps, codec.digest):
        with pytest.raises(NotStorable):
            use(loop)


def test_a_subclass_is_not_stored_as_its_base() -> None:
    """A value whose exact type has no entry is refused rather than given back as something else."""

    class Mine(dict[str, int]):
        pass

    with pytest.raises(NotStorable):
        codec.dumps(Mine(a=1))


@pytest.mark.parametrize("junk", ['{"$nobody": 1}', '{"$decimal": "x"}', '{"$tuple": 3}', "{", '{"$uuid": []}', '{"$str": ["x"]}'])
def test_junk_is_an_integrity_error(junk: str) -> None:
    """Damaged or unknown stored text raises IntegrityError, whatever it is."""
    with pytest.raises(IntegrityError):
        codec.loads(junk)


def test_i24_as_54_loading_imports_and_calls_nothing() -> None:
    """Loading any stored text imports nothing, even when it names a module and a class."""
    seen: list[str] = []
    armed = True

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if armed and event in {"import", "exec", "compile", "os.system", "pickle.find_class"}:
            seen.append(event)

    texts = [
        codec.dumps({"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {"x": b"1"}}),
        codec.dumps({"py/object": "os.system"}),
    ]
    sys.addaudithook(hook)
    for text in texts:
        codec.loads(text)
    armed = False
    assert seen == []


@given(plain)
def test_the_fast_path_writes_what_rfc_8785_writes(value: Any) -> None:
    """Wherever the standard encoder is used for a digest, its bytes are those of RFC 8785."""
    if _plain(value, 200):
        assert codec.canonical(value) == rfc8785.dumps(value)


@given(st.dictionaries(st.text(), scalars))
def test_as_18_digests_ignore_spelling(value: dict[str, Any]) -> None:
    """Key order, tuple or list, 1 or 1.0, -0.0 or 0 do not change a digest."""
    turned = dict(reversed(list(value.items())))
    assert codec.digest(turned) == codec.digest(value)
    assert codec.digest({"v": [1, 0, 2.0]}) == codec.digest({"v": (1.0, -0.0, 2)})


def test_as_18_digests_tell_apart_what_differs() -> None:
    """Values that mean different things have different digests, among them those that JSON would merge."""
    decomposed = unicodedata.normalize("NFD", "é")
    different: list[Any] = [
        1, "1", True, None, 1.5, "1.5", Decimal("1.5"), 2**53, 2**53 + 1, float(2**60) + 0.0, float("nan"), "nan", b"1", {1: "a"},
        {"1": "a"}, {"a": 1}, [["a", 1]], "é", decomposed, "\ud800", {"$str": [55296]}, {"$dict": []}, {}, [], [[]], {"a": None},
        {1}, [1], datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00",
    ]  # fmt: skip
    digests = [codec.digest(value) for value in different]
    assert len(set(digests)) == len(different)


def test_two_types_cannot_share_a_tag() -> None:
    """Registering a taken tag for another type is refused."""
    with pytest.raises(UsageError):
        Codec().register("bytes", int, str, int)


def test_plain_values_are_stored_as_themselves() -> None:
    """An ordinary JSON value is its own stored form, so that the database can be read with any tool."""
    value = {"order": "7", "lines": [{"sku": "a", "n": 2}], "paid": True}
    assert json.loads(codec.dumps(value)) == value


def test_a_digest_takes_any_integer() -> None:
    """An integer with more digits than Python likes to print has a digest."""
    assert codec.digest({"n": 10**5000}) != codec.digest({"n": 10**5000 + 1})


def test_a_deep_value_on_a_deep_stack_is_not_storable() -> None:
    """When the caller has used up the stack, a deep value is NotStorable, never a RecursionError."""
    value: list[Any] = []
    for _ in range(150):
        value = [value]

    def deep(levels: int) -> list[str]:
        if levels:
            return deep(levels - 1)
        seen = []
        for use in (codec.dumps, codec.digest):
            try:
                use(value)
            except NotStorable:
                seen.append("refused")
        return seen

    frame, depth = sys._getframe(), 0
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    assert deep(sys.getrecursionlimit() - depth - 100) == ["refused", "refused"]
