"""The inspection of the state table: it finds the records that cannot be read.

Each minute it reads a part of every kind, and continues there the next minute, so that its cost does not grow with the
number of records. Most readers skip what they cannot read; this is how operators learn of it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import Block, History
from chalicelib.core.state.breakers import Known
from chalicelib.core.state.events import Events
from chalicelib.core.state.kinds import CONTROLS, RECORDS
from chalicelib.core.state.publishing import Heartbeat
from chalicelib.core.state.records import MOST_UNREADABLE, Control, Unreadable
from chalicelib.core.state.trends import Trend
from chalicelib.pipeline.stored import State

MOST_READ = {Block.kind: 1000, Allow.kind: 1000, History.kind: 300, Events.kind: 10, Trend.kind: 10, Known.kind: 1}
"""Most records of a kind that are read per minute, at about 500 bytes each. Digests of known clients are large, and so
are the events of an attack."""

MOST_READ_OF_OTHERS = 50


class Inspected(NamedTuple):
    """The findings after a part of the table was read."""

    unreadable: tuple[Unreadable, ...]
    """The first ``MOST_UNREADABLE`` records that cannot be read, by kind and id."""
    inspected: dict[str, str]
    """The id after which to continue, by kind; empty to begin again."""


def inspect(state: State, last: Heartbeat) -> Inspected:
    """Reads the next part of every kind. Raises what the state store raises."""
    unreadable = {(each.kind, each.id): each for each in last.unreadable if each.kind != Control.kind}
    inspected: dict[str, str] = {}
    for of in RECORDS:
        above, most = last.inspected.get(of.kind, ""), MOST_READ.get(of.kind, MOST_READ_OF_OTHERS)
        part = list(state.scan(of, above=above, limit=most))
        end = part[-1].id if len(part) == most else None
        inspected[of.kind] = end or ""
        for kind, id in list(unreadable):
            if kind == of.kind and above < id and (end is None or id <= end):
                del unreadable[kind, id]
        unreadable |= {(each.kind, each.id): each for each in part if isinstance(each, Unreadable)}
    controls = (state.find(of, of.id) for of in CONTROLS)
    unreadable |= {(each.kind, each.id): each for each in controls if isinstance(each, Unreadable)}
    return Inspected(tuple(unreadable[key] for key in sorted(unreadable)[:MOST_UNREADABLE]), inspected)


def still_unreadable(state: State, known: Sequence[Unreadable]) -> tuple[Unreadable, ...]:
    """Returns those of ``known`` that are still stored and still cannot be read."""
    left: list[Unreadable] = []
    for kind in dict.fromkeys(each.kind for each in known):
        left += state.unreadable(kind, [each.id for each in known if each.kind == kind])
    return tuple(left)
