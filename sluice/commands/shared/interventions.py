"""Interventions of the circuit breakers, in words."""

from collections.abc import Iterable, Iterator

from chalicelib.core.wording import plural
from sluice.commands.shared.times import utc
from sluice.replay.breaker_model import LIMITS, Intervention


def sentences(interventions: Iterable[Intervention]) -> Iterator[str]:
    """Yields one sentence for each intervention."""
    for each in interventions:
        start, blocks = utc(each.at * 1000), plural(each.blocks, "block")
        if each.stopped:
            known = plural(each.known, "known client")
            yield (
                f"Production would have stopped rule {each.rule} at {start}, after {blocks}: it would have blocked "
                f"{each.would_hit:,} of {known} within ten minutes."
            )
        else:
            yield (
                f"Production would have slowed rule {each.rule} down from {start}, because clients are known only "
                f"after a day: {LIMITS.pace:,} blocks per minute, the last of {blocks} at {utc(each.last_at * 1000)}."
            )
