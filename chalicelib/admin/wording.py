"""What records say, in words."""

from chalicelib.core.durations import format_duration
from chalicelib.core.state import Block, Evidence


def evidence(found: Evidence) -> str:
    window = format_duration(found.window_s)
    return f"{found.rule}: {found.count} requests within {window}, limit {found.limit}"


def reason(block: Block) -> str:
    """Why a network is blocked."""
    if block.evidence is not None and not block.manual:
        return evidence(block.evidence)
    made_by = f"blocked by {block.by or 'an operator'}"
    return f"{made_by}: {block.comment}" if block.comment else made_by


def roughly(seconds: int) -> str:
    """A duration to two units, as people say it.

    >>> roughly(59), roughly(3600), roughly(3725), roughly(90061)
    ('59s', '1h', '1h 2m', '1d 1h')
    """
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, seconds = divmod(seconds, size)
        if number:
            parts.append(f"{number}{unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0s"


def plural(number: int, noun: str) -> str:
    """A number and what it counts.

    >>> plural(1, "block"), plural(0, "block")
    ('1 block', '0 blocks')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
