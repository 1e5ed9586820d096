"""A Kinesis stream in memory: shards, sequence numbers, resharding."""

from dataclasses import dataclass, field
from random import Random


@dataclass(frozen=True, slots=True)
class Record:
    sequence: int
    data: bytes
    arrived: float
    """Epoch seconds."""


@dataclass(slots=True)
class Shard:
    id: str
    records: list[Record] = field(default_factory=list)
    """Those that have not been read to the end yet."""
    closed: bool = False
    parents: tuple[str, ...] = ()
    """Shards that have to be read to their end before this one is begun."""


class Stream:
    """Records are dealt to the open shards at random, as CloudFront's partition keys do."""

    def __init__(self, name: str, shards: int, random: Random) -> None:
        self.name = name
        self.shards: dict[str, Shard] = {}
        self._random = random
        self._next = 49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898
        for _ in range(shards):
            self._open(())

    @property
    def open_shards(self) -> list[Shard]:
        return [shard for shard in self.shards.values() if not shard.closed]

    def put(self, data: bytes, now: float, shard: Shard | None = None) -> Shard:
        shard = shard or self._random.choice(self.open_shards)
        self._next += self._random.randrange(1, 1 << 20)
        shard.records.append(Record(self._next, data, now))
        return shard

    def split(self, shard: Shard) -> None:
        """Closes ``shard``; two new ones take its place."""
        shard.closed = True
        self._open((shard.id,))
        self._open((shard.id,))

    def merge(self, one: Shard, other: Shard) -> None:
        """Closes both; a new one takes their place."""
        one.closed = other.closed = True
        self._open((one.id, other.id))

    def _open(self, parents: tuple[str, ...]) -> None:
        id = f"shardId-{len(self.shards):012d}"
        self.shards[id] = Shard(id, parents=parents)
