"""``python -m tests.chaos``: many runs, on all cores; a failed run is reduced and printed with its seed."""

import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

import click
from rich.console import Console
from rich.progress import track

from tests.chaos.shrinking import Failure, failure_of

MOST_TOLD = 10
A_TIME = 20
"""Runs that a process is given at a time."""


@click.command(context_settings={"show_default": True})
@click.option("--runs", default=10_000, type=click.IntRange(min=1), help="How many seeds to play.")
@click.option("--seed", default=0, type=click.IntRange(min=0), help="The first of them.")
@click.option("--cores", default=os.cpu_count() or 1, type=click.IntRange(min=1), help="How many at the same time.")
def main(runs: int, seed: int, cores: int) -> None:
    """Run the whole pipeline under every mishap. The exit status is 1 if any run fails."""
    console = Console(soft_wrap=True)
    failures = []
    for failure in track(_failures(range(seed, seed + runs), cores), "Chaos", total=runs, console=console):
        if failure is not None:
            failures.append(failure)
            console.print(failure.report(), highlight=False, markup=False)
            if len(failures) == MOST_TOLD:
                break
    held = f"{runs} runs, seeds {seed} to {seed + runs - 1}: "
    if failures:
        console.print(held + f"{len(failures)} failed: {', '.join(str(failure.seed) for failure in failures)}")
        sys.exit(1)
    console.print(held + "all held")


def _failures(seeds: Iterable[int], cores: int) -> Iterator[Failure | None]:
    if cores == 1:
        yield from map(failure_of, seeds)
        return
    with ProcessPoolExecutor(cores) as pool:
        try:
            yield from pool.map(failure_of, seeds, chunksize=A_TIME)
        finally:
            pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    main()
