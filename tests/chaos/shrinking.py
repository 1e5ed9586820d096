"""Reduces a failed run: mishaps are removed until each one that remains is needed for the failure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.chaos.mishaps import Mishap
from tests.chaos.pipeline import Chaos

TRACE_SHOWN = 30


@dataclass(frozen=True, slots=True)
class Failure:
    """The smallest run that still fails."""

    seed: int
    mishaps: tuple[Mishap, ...]
    why: str
    trace: tuple[str, ...]

    def report(self) -> str:
        happened = "\n".join(f"  {mishap}" for mishap in self.mishaps) or "  nothing at all"
        last = "\n".join(f"  {line}" for line in self.trace[-TRACE_SHOWN:])
        return (
            f"seed {self.seed}: {self.why}\nIt takes no more than:\n{happened}\nThe last calls:\n{last}\n"
            f"Again: python -m tests.chaos --seed {self.seed} --runs 1"
        )


New = Callable[[int, Sequence[Mishap] | None], Chaos]
"""Makes a run of a seed, with these mishaps or its own."""


def own(seed: int, mishaps: Sequence[Mishap] | None) -> Chaos:
    return Chaos(seed, mishaps=mishaps)


def failure_of(seed: int, new: New = own) -> Failure | None:
    """Plays a seed. Returns None or, after removing mishaps one by one, the smallest failure."""
    failure = _played(seed, None, new)
    while failure is not None:
        fewer = (
            _played(seed, failure.mishaps[:at] + failure.mishaps[at + 1 :], new) for at in range(len(failure.mishaps))
        )
        smaller = next((found for found in fewer if found is not None), None)
        if smaller is None:
            return failure
        failure = smaller
    return None


def _played(seed: int, mishaps: Sequence[Mishap] | None, new: New) -> Failure | None:
    chaos = new(seed, mishaps)
    try:
        chaos.play()
    except Exception as exc:  # noqa: BLE001 - whatever ends a run is a failure of it
        trace = tuple(chaos.schedule.trace)
        return Failure(seed, tuple(chaos.mishaps), f"{type(exc).__name__}: {exc}", trace)
    return None
