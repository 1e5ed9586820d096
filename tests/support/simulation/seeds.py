"""How many runs, from which seed: ``SLUICE_RUNS`` and ``SLUICE_SEED``; and how a failed one is reported."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.support.simulation.schedule import Schedule

TRACE_SHOWN = 60


def seeds(default: int) -> Iterator[int]:
    first = int(os.environ.get("SLUICE_SEED", "0"))
    return iter(range(first, first + int(os.environ.get("SLUICE_RUNS", str(default)))))


def play(seed: int, schedule: Schedule, run: Callable[[], object]) -> None:
    """Fails the test with the seed and the end of the trace if the run violates anything or raises."""
    try:
        run()
    except Exception as exc:  # noqa: BLE001 - every failure is told with its seed
        trace = "\n".join(schedule.trace[-TRACE_SHOWN:])
        pytest.fail(f"seed {seed} (again: SLUICE_SEED={seed} SLUICE_RUNS=1): {type(exc).__name__}: {exc}\n{trace}")


def first_violation(most: int, run: Callable[[int], object]) -> AssertionError | None:
    """What the first of ``most`` seeds that violates anything says."""
    for seed in range(most):
        try:
            run(seed)
        except AssertionError as exc:
            return exc
    return None
