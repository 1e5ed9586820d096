"""Malformed pieces, counted by log and reason, with one sample of each.

Logs and reasons are closed sets, and a sample is short: counts stay small, however many pieces there are.
"""

from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from chalicelib.core.logs.requests import Malformed, Reason

MOST_STORED = 8
"""Most counts that one batch stores, the largest of them."""


class MalformedCount(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The pieces of one log that were malformed for one reason."""

    source: str | None = None
    """The log they were read as; None if no format recognised them."""
    reason: str
    number: int
    found: int | None = None
    """Number of fields in each; None if that is not the fault, or if they differ in it."""
    expected: int | None = None
    """Number of fields that each should have; None if that is not the fault, or unknown."""
    name: str = ""
    """The unsupported log or kind of file that they are; empty for other reasons, or if they differ in it."""
    sample: str = ""
    """The start of the first piece, harmless in a log: at most 160 printable ASCII characters."""
    where: str = ""
    """The file and the line of the first piece, or the bucket and the key of its object; empty for a record."""

    def __add__(self, later: "MalformedCount") -> "MalformedCount":
        """Returns the count of the pieces of both, which are of the same log and reason."""
        return msgspec.structs.replace(
            self,
            number=self.number + later.number,
            found=self.found if self.found == later.found else None,
            expected=self.expected if self.expected == later.expected else None,
            name=self.name if self.name == later.name else "",
        )


MalformedCounts = tuple[MalformedCount, ...]
"""Counts of different logs or reasons, the largest first."""


def counted(pieces: Iterable[Malformed], where: Callable[[bytes], str] = lambda _: "") -> MalformedCounts:
    """Returns the counts of ``pieces``; ``where`` returns the place of a piece, given its start."""
    kinds: dict[tuple[object, ...], int] = {}
    firsts: dict[tuple[object, ...], Malformed] = {}
    for piece in pieces:
        kind = piece.source, piece.reason, piece.fields, piece.name
        kinds[kind] = kinds.get(kind, 0) + 1
        firsts.setdefault(kind, piece)
    return added(_count(firsts[kind], number, where) for kind, number in kinds.items())


def added(counts: Iterable[MalformedCount]) -> MalformedCounts:
    """Returns the sums of ``counts`` by log and reason; each keeps the sample that came first."""
    sums: dict[tuple[str | None, str], MalformedCount] = {}
    for count in counts:
        kind = count.source, count.reason
        sums[kind] = sums[kind] + count if kind in sums else count
    return tuple(sorted(sums.values(), key=lambda count: -count.number))


def by_reason(counts: MalformedCounts) -> Counter[str]:
    """Returns the number of pieces for each reason."""
    numbers: Counter[str] = Counter()
    for count in counts:
        numbers[count.reason] += count.number
    return numbers


def _count(first: Malformed, number: int, where: Callable[[bytes], str]) -> MalformedCount:
    found, expected = first.fields or (None, None)
    return MalformedCount(
        source=first.source and str(first.source),
        reason=str(first.reason),
        number=number,
        found=found,
        expected=expected,
        name=first.name if first.reason is Reason.UNSUPPORTED else "",
        sample=first.sample(),
        where=where(first.raw),
    )


_counts = msgspec.json.Decoder(MalformedCounts)


def pack_counts(counts: MalformedCounts) -> str:
    """Returns the largest ``MOST_STORED`` counts as JSON."""
    return msgspec.json.encode(counts[:MOST_STORED]).decode()


def unpack_counts(packed: str) -> MalformedCounts:
    """Returns the counts that ``pack_counts`` packed; none for other text, because only explanations are lost."""
    try:
        return _counts.decode(packed)
    except (msgspec.MsgspecError, UnicodeError):
        return ()
