"""The evaluator's memory: its view remembers every client for a few minutes, so it grows with the rate of requests."""

from math import ceil

from chalicelib.bootstrap import CONTAINER_MB, ENTRY_BYTES
from chalicelib.config import SETTINGS

ENTRIES_PER_REQUEST = 1.08
"""(client, slot) pairs per request under the default rules: the slots of pages are 50 ms long, those of static
files are longer, and the other rules add few pairs."""

LATENESS_S = int(SETTINGS["lateness_s"].default)

KEPT_BEYOND_S = 75
"""Seconds of requests in a view besides the lateness: the default rules' longest window, and about one stretch."""

VCPU_MB, MOST_MB = 1_769, 10_240
"""Memory at which Lambda provides one vCPU, and the most that it accepts."""


def entries(requests_per_second: float, lateness_s: int = LATENESS_S) -> float:
    """Returns the number of entries in the evaluator's view.

    ``requests_per_second``: those that are logged; ``lateness_s``: the setting LATENESS_S.
    """
    return requests_per_second * ENTRIES_PER_REQUEST * (lateness_s + KEPT_BEYOND_S)


def evaluator_mb(requests_per_second: float, lateness_s: int = LATENESS_S) -> int:
    """Returns the memory, in MB, in which a view fits if its entries are as large as they can be.

    It is at least that of one vCPU, and has no upper bound.

    >>> evaluator_mb(1000), evaluator_mb(1_000_000), evaluator_mb(100_000, lateness_s=1800)
    (1769, 8924, 8600)
    """
    return max(VCPU_MB, ceil(CONTAINER_MB + entries(requests_per_second, lateness_s) * ENTRY_BYTES / 1e6))


def most_requests_per_s(lateness_s: int = LATENESS_S) -> int:
    """Returns the highest rate of logged requests for which a function can have the memory."""
    return int((MOST_MB - CONTAINER_MB) * 1e6 / ENTRY_BYTES / entries(1, lateness_s))
