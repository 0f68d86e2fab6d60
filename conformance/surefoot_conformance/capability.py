"""What an implementation has, as documented properties of its harness."""

from __future__ import annotations

from typing import Any

__all__ = ["Capability", "capability", "meaning"]


class Capability:
    """A property of a harness: true where it implements something, or by default; a subclass says otherwise with a plain value."""

    def __init__(self, meaning: str, implements: str, *, default: bool) -> None:
        self.__doc__ = meaning
        self._implements = implements
        self._default = default

    def __set_name__(self, owner: type, _name: str) -> None:
        """Remember whose method it is that must be implemented."""
        self._owner = owner

    def __get__(self, instance: object | None, owner: type) -> Any:
        """Return whether the harness has it; on the class, the property itself."""
        if instance is None:
            return self
        name = self._implements
        return getattr(owner, name) is not getattr(self._owner, name) if name else self._default


def capability(meaning: str, *, implements: str = "", default: bool = True) -> Any:
    """Return a property that says ``meaning``; true where the method ``implements`` is overridden, else ``default``."""
    return Capability(meaning, implements, default=default)


def meaning(harness: object, name: str) -> str:
    """Return what a capability of a harness says, whatever value its subclasses gave it."""
    found = (vars(base).get(name) for base in type(harness).__mro__)
    said = next((entry.__doc__ or "" for entry in found if isinstance(entry, Capability | property)), "")
    return said[:1].lower() + said[1:].rstrip(".")
