"""A Kinesis stream in memory: shards, sequence numbers, resharding."""

from dataclasses import dataclass, field
from random import Random

FIRST_SEQUENCE = 49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898
"""A sequence number of realistic length: 56 digits."""


@dataclass(frozen=True, slots=True)
class StreamRecord:
    sequence: int
    data: bytes
    arrived: float
    """Epoch seconds."""


@dataclass(slots=True)
class Shard:
    """A shard and its records that have not been ingested yet."""

    id: str
    records: list[StreamRecord] = field(default_factory=list)
    closed: bool = False
    parents: tuple[str, ...] = ()
    """Ids of shards that must be read to the end before this one is started."""


class Stream:
    """A stream whose records go to random open shards, as they do with CloudFront's random partition keys."""

    def __init__(self, name: str, shards: int, random: Random) -> None:
        self.name = name
        self.shards: dict[str, Shard] = {}
        self._random = random
        self._next = FIRST_SEQUENCE
        for _ in range(shards):
            self._open(())

    @property
    def open_shards(self) -> list[Shard]:
        return [shard for shard in self.shards.values() if not shard.closed]

    def put(self, data: bytes, now: float, shard: Shard | None = None) -> Shard:
        """Appends a record to ``shard``, or to a random open one, and returns the shard."""
        shard = shard or self._random.choice(self.open_shards)
        self._next += self._random.randrange(1, 1 << 20)
        shard.records.append(StreamRecord(self._next, data, now))
        return shard

    def split(self, shard: Shard) -> None:
        """Closes ``shard`` and opens two children."""
        shard.closed = True
        self._open((shard.id,))
        self._open((shard.id,))

    def merge(self, left: Shard, right: Shard) -> None:
        """Closes two shards and opens one child of both."""
        left.closed = right.closed = True
        self._open((left.id, right.id))

    def _open(self, parents: tuple[str, ...]) -> None:
        id = f"shardId-{len(self.shards):012d}"
        self.shards[id] = Shard(id, parents=parents)
