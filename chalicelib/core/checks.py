"""Checks of single values, shared by rules and settings. Each states the accepted form, as error messages word it."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ValueCheck:
    accepted: str
    """Completes "expected ..." and "... is not ...": "a whole number from 1 to 100"."""
    accepts: Callable[[Any], bool]


def whole(low: int, high: int) -> ValueCheck:
    """Returns a check for integers from ``low`` to ``high``, both inclusive; booleans do not pass.

    >>> whole(1, 100).accepts(100), whole(1, 100).accepts(True), whole(1, 100).accepts("5")
    (True, False, False)
    """
    return ValueCheck(f"a whole number from {low} to {high}", lambda value: type(value) is int and low <= value <= high)


def one_of(words: Collection[str], accepted: str) -> ValueCheck:
    return ValueCheck(accepted, lambda value: isinstance(value, str) and value in words)


def pattern(regex: str, accepted: str) -> ValueCheck:
    """Returns a check for text that matches ``regex`` from start to end; classes such as ``\\d`` are ASCII only."""
    compiled = re.compile(regex, re.ASCII)
    return ValueCheck(accepted, lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None)
