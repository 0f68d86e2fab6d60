"""Arguments as identity: business keys, methods, enumerations, data classes, what has no data form."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pytest
from crash import Effects
from python_support import Once, Stop

import surefoot
from surefoot import Guard, InDoubt, KeyConflict, ToolRule, UsageError


def test_a_business_key_is_made_of_values(guard: Guard, effects: Effects) -> None:
    """An object that compares by identity has no content: as a business key it is refused, also inside another value, and nothing runs."""

    class Order:
        pass

    @surefoot.tool(effect="unsafe", key=["order"])
    def charge(order: Any, session: Any = None) -> None:
        effects.add("charge", order)

    for order in (Order(), [Order()]):
        with pytest.raises(UsageError, match="cannot recognise its argument 'order' again"):
            surefoot.wrap(lambda order=order: charge(order), guard=guard)()
    surefoot.wrap(lambda: charge(7, Order()), guard=guard)()
    assert effects.count("charge") == 1


def test_a_keyword_with_the_name_of_a_positional_parameter_hides_nothing(guard: Guard, effects: Effects) -> None:
    """A function that takes any keyword may be given one that is called as its positional-only parameter: that one is the key."""

    @surefoot.tool(effect="unsafe", key=["order"])
    def charge(order: int, /, **_more: Any) -> int:
        effects.add("charge", order)
        return order

    assert surefoot.wrap(lambda: [charge(1, order=5), charge(2, order=5), charge(2, order=5)], guard=guard)() == [1, 2, 2]
    assert effects.count("charge") == 2


def test_as_16_one_business_key_and_another_amount(guard: Guard, effects: Effects) -> None:
    """The same key is one effect across runs; with other arguments it is a conflict, and held where declared unsafe."""

    @surefoot.tool(key=["order"])
    def charge(order: int, amount: int) -> str:
        effects.add("charge", order, amount)
        return f"{order}: {amount}"

    def main(amount: int) -> str:
        return charge(7, amount)

    wrapped = surefoot.wrap(main, guard=guard)
    assert [wrapped(5), wrapped(5)] == ["7: 5", "7: 5"]
    with pytest.raises(KeyConflict):
        wrapped(6)
    strict = surefoot.wrap(main, guard=Guard(guard.store, tools={"charge": ToolRule("unsafe", key="order")}))
    with pytest.raises(InDoubt, match="held"):
        strict(6)
    assert effects.count("charge") == 1


class Colour(enum.Enum):
    """Something with a name."""

    RED = 1


@dataclass(frozen=True)
class Order:
    """A value."""

    number: int
    colour: Colour = Colour.RED


class Client:
    """A collaborator: compares by identity."""

    def __init__(self, effects: Effects) -> None:
        self.effects = effects

    @surefoot.tool(effect="unsafe")
    def send(self, order: Order, *rest: int, **options: object) -> Order:
        """Send."""
        self.effects.add("send", order.number, *rest)
        return Order(order.number + 1)


def test_methods_and_values_are_recognised_in_another_process(guard: Guard, effects: Effects) -> None:
    """A method's object counts as its type and a dataclass as its content; a returned dataclass comes back as one."""
    once = Once()

    def main(client: Client) -> list[Order]:
        found = [client.send(Order(1)), client.send(Order(2), 3, urgent={Colour.RED}, copy=PurePosixPath("x"))]
        once()
        return found

    wrapped = surefoot.wrap(main, guard=guard)
    with surefoot.run("r"):
        with pytest.raises(Stop):
            wrapped(Client(effects))
        assert wrapped(Client(effects)) == [Order(2), Order(3)]
    assert effects.count("send") == 2
    assert {call.tool for call in guard.calls.list()} == {"Client.send"}


class Money:
    """A value that nobody can write down: it compares by content and has no fields."""

    def __eq__(self, other: object) -> bool:
        """Compare."""
        return isinstance(other, Money)

    __hash__ = None  # type: ignore[assignment]


def test_a_value_without_a_data_form_is_refused(guard: Guard) -> None:
    """An argument that another process could not recognise is an error before the body, with what to do."""

    @surefoot.tool()
    def pay(money: object) -> object:
        raise AssertionError

    with pytest.raises(UsageError, match=r"'money' again .*Money has no data form.*: pass plain data"):
        surefoot.wrap(lambda: pay(Money()), guard=guard)()
