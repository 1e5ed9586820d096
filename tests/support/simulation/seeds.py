"""The seeds of runs, from ``SLUICE_RUNS`` and ``SLUICE_SEED``, and the report of a failed run."""

import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from tests.support.simulation.schedule import Schedule

T = TypeVar("T")

TRACE_SHOWN = 60


def seeds(default: int) -> Iterator[int]:
    first = int(os.environ.get("SLUICE_SEED", "0"))
    return iter(range(first, first + int(os.environ.get("SLUICE_RUNS", str(default)))))


def play(seed: int, schedule: Schedule, run: Callable[[], T]) -> T:
    """Returns what the run returns; if it raises, fails the test with the seed and the end of the trace."""
    try:
        return run()
    except Exception as exc:  # noqa: BLE001 - every failure is reported with its seed
        trace = "\n".join(schedule.trace[-TRACE_SHOWN:])
        pytest.fail(f"seed {seed} (again: SLUICE_SEED={seed} SLUICE_RUNS=1): {type(exc).__name__}: {exc}\n{trace}")


def first_violation(most: int, run: Callable[[int], object]) -> AssertionError | None:
    """Returns the first violation among ``most`` seeds, or None."""
    for seed in range(most):
        try:
            run(seed)
        except AssertionError as exc:
            return exc
    return None
