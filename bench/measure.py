"""Figures, and the CPU time of a piece of work."""

import gc
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import Any

MEASURED_RULES = Path(__file__).with_name("rules.toml")
"""The rules with which speed and memory are measured, in every version."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure. ``budget`` is its upper bound, or its lower bound with ``at_least``; None for no bound.

    ``value`` is NaN if there is nothing to compare with.
    """

    name: str
    value: float
    unit: str
    budget: float | None
    how: str
    at_least: bool = False

    @property
    def holds(self) -> bool | None:
        if self.budget is None:
            return None
        return self.value >= self.budget if self.at_least else self.value <= self.budget

    def as_row(self) -> dict[str, Any]:
        row = asdict(self)
        del row["at_least"]
        return {**row, "value": None if isnan(self.value) else self.value, "holds": self.holds}


def cpu_s(work: Callable[[], object], *, rounds: int = 7) -> float:
    """Returns the least CPU time of several rounds, because every disturbance only adds to a round."""
    return min(_round(work) for _ in range(rounds))


def paired_cpu_s(*prepare: Callable[[], Callable[[], object]], rounds: int = 9) -> list[float]:
    """Returns the least CPU time of each piece of work. They take turns, so that a slow minute affects them all.

    Each of ``prepare`` returns the work of one round, and is not measured itself.
    """
    best = [float("inf")] * len(prepare)
    for _ in range(rounds):
        for index, make in enumerate(prepare):
            best[index] = min(best[index], _round(make()))
    return best


def _round(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.process_time()
    work()
    return time.process_time() - start
