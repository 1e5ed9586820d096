"""The statements of a Python file, without their expressions: imports and docstrings are found much sooner there."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path


@cache
def statements_of(path: Path) -> list[ast.AST]:
    """Returns the statements of a file at all depths, each before those within it."""
    return list(_within(ast.parse(path.read_text("utf-8"))))


def _within(block: ast.AST) -> Iterator[ast.AST]:
    for part in ("body", "orelse", "handlers", "finalbody", "cases"):
        for statement in getattr(block, part, ()):
            yield statement
            yield from _within(statement)
