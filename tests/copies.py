"""Functions that stand in more than one package: copies, whatever they and their variables are called."""

from __future__ import annotations

import ast
import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["copied"]

Function = ast.FunctionDef | ast.AsyncFunctionDef


class _Renamed(ast.NodeTransformer):
    """Gives a function's own names numbers in the order in which they come, and leaves out what is said about types."""

    def __init__(self, function: Function) -> None:
        args = function.args
        given = [*args.posonlyargs, *args.args, *filter(None, [args.vararg]), *args.kwonlyargs, *filter(None, [args.kwarg])]
        self._known = {name.arg: number for number, name in enumerate(given)}
        self._stored = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}

    def visit_Name(self, node: ast.Name) -> ast.Name:
        """Number a parameter or a variable."""
        if node.id in self._known or node.id in self._stored:
            node.id = f"#{self._known.setdefault(node.id, len(self._known))}"
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """Leave out the type of a variable."""
        self.generic_visit(node)
        return node if node.value is None else ast.Assign(targets=[node.target], value=node.value)


def copied(sources: Mapping[Path, str], size: int) -> list[list[str]]:
    """Return the functions with equal bodies of at least ``size`` nodes in files of different folders, a list for each body."""
    found: dict[str, dict[Path, str]] = defaultdict(dict)
    for path, source in sources.items():
        for function in _functions(ast.parse(source)):
            body = _body(function)
            if sum(1 for node in body for _ in ast.walk(node)) >= size:
                said = "".join(ast.dump(node) for node in body)
                found[said].setdefault(path.parent, f"{path.as_posix()}:{function.lineno} {function.name}")
    return [sorted(places.values()) for places in found.values() if len(places) > 1]


def _functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _body(function: Function) -> list[ast.stmt]:
    """Return what a function does, without its docstring and its own names."""
    mine = copy.deepcopy(function)
    first = mine.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    renamed = _Renamed(mine)
    return [renamed.visit(node) for node in mine.body[1 if documented else 0 :]]
