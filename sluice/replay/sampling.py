"""Conversion between requests in a sampled log and requests made."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sampling:
    """The share of requests that a log holds.

    >>> Sampling(10).made(6), Sampling(10).logged(50)
    (60, 5)
    """

    percent: int = 100
    """1 to 100."""

    def made(self, logged: int) -> int:
        """Returns the number of requests that ``logged`` requests in the log stand for, rounded down."""
        return logged * 100 // self.percent

    def logged(self, made: int) -> int:
        """Returns the number of requests in the log that ``made`` requests leave there, rounded down."""
        return made * self.percent // 100


WHOLE_LOG = Sampling()
