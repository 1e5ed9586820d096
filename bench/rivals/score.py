"""Compares what a rival found with the truth."""

from collections.abc import Collection, Mapping
from statistics import median
from typing import NamedTuple

from bench.rivals.traffic import Limit, Times, first_over


class Score(NamedTuple):
    missed: Collection[str]
    """Clients over the limit that were never found."""
    false: Collection[str]
    """Clients found that were never over it."""
    delay_s: float | None
    """Median time from the request that exceeds the limit until the client is found; None if none of them was."""


def truth(times: Times, limit: Limit) -> dict[str, int]:
    """Returns when each client that exceeds ``limit`` first does so."""
    return {client: at for client, moments in times.items() if (at := first_over(moments, limit)) is not None}


def score(first: Mapping[str, float], over: Mapping[str, int], timed: Collection[str]) -> Score:
    """Scores the moments at which clients were ``first`` found; the delay is that of the ``timed`` clients.

    >>> score({"a": 12, "c": 3}, over={"a": 10, "b": 10}, timed={"a", "b"})
    Score(missed={'b'}, false={'c'}, delay_s=2)
    """
    delays = [first[client] - over[client] for client in timed if client in over and client in first]
    return Score(over.keys() - first.keys(), first.keys() - over.keys(), median(delays) if delays else None)
