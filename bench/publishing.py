"""Planning and publishing the IP sets with very many blocks, against a straightforward version on ``ipaddress``."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from itertools import count
from random import Random

from bench.earlier import against_earlier
from bench.limits import ITEM_S
from bench.measure import Figure, paired_cpu_s
from bench.prices import PRICES
from bench.units import MeteredStore
from chalicelib.core.addresses import Network, NetworkSet, parse_network
from chalicelib.core.ipsets import CAPACITY, IpSet, next_contents, rooms_of, wanted
from chalicelib.core.rules import RuleSet
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.publishing import Heartbeat
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.publish import PACE_S, Publish
from chalicelib.pipeline.stored import State
from chalicelib.pipeline.sweep import Sweep
from chalicelib.ports import StreamChange
from chalicelib.reports import PublishReport, SweepReport
from sluice.local.stores import MemoryStateStore

NOW = 1_760_000_000
ALLOWED = ("192.0.2.0/24", "10.0.0.0/8", "2001:db8::/32")


def blocks(number: int, share_v6: float = 0.3) -> list[Block]:
    """Returns blocks of single IPv4 addresses and IPv6 /64 networks, spread over the address space."""
    rng = Random(number)
    networks: list[Network] = []
    for at in range(number):
        if at < number * share_v6:
            networks.append(IPv6Network(((0x2400 << 112) | (rng.getrandbits(48) << 64), 64)))
        else:
            networks.append(IPv4Network((rng.randrange(11 << 24, 223 << 24), 32)))
    return [
        Block(network=str(network), blocked_at=NOW - rng.randrange(1000), until=NOW + 3600, rule="burst")
        for network in networks
    ]


def sets_for(number: int, share_v6: float = 0.3) -> list[IpSet]:
    four, six = round(number * (1 - share_v6)), round(number * share_v6)
    counts = {4: -(-four // CAPACITY), 6: -(-six // CAPACITY)}
    return [IpSet(f"v{family}-{n}", str(n), family) for family, count in counts.items() for n in range(count)]


class TextIpSets:
    """``IpSets`` in memory, with addresses kept as text as AWS keeps them."""

    def __init__(self) -> None:
        self._texts: dict[IpSet, list[str]] = {}
        self._versions: Counter[IpSet] = Counter()

    def tokens(self, sets: Collection[IpSet]) -> Mapping[IpSet, str]:
        return {ip_set: str(self._versions[ip_set]) for ip_set in sets}

    def get(self, ip_set: IpSet) -> tuple[frozenset[Network], str]:
        return frozenset(map(parse_network, self._texts.get(ip_set, ()))), str(self._versions[ip_set])

    def update(self, ip_set: IpSet, addresses: frozenset[Network], token: str) -> str:
        assert token == str(self._versions[ip_set])
        self._versions[ip_set] += 1
        self._texts[ip_set] = sorted(map(str, addresses))
        return str(self._versions[ip_set])

    @property
    def total(self) -> int:
        return sum(map(len, self._texts.values()))


class Publishing:
    """A publisher with ``number`` blocks, on a clock that only sleeping advances."""

    def __init__(self, number: int) -> None:
        self.now = float(NOW)
        self.state = MeteredStore(MemoryStateStore())
        self.sets = TextIpSets()
        self._number = number
        self.store(blocks(number))
        self.restart()

    def restart(self) -> None:
        """Replaces the publisher by a cold one, which reads everything."""
        self.publish = Publish(
            state=State(self.state),
            rules=lambda _: RulesInUse(RuleSet(())),
            ip_sets=self.sets,
            sets=sets_for(self._number),
            clock=lambda: self.now,
            sleep=self._sleep,
        )

    def store(self, blocks: Sequence[Block]) -> None:
        State(self.state).overwrite(*blocks)

    def __call__(self, *changes: StreamChange) -> PublishReport:
        report = self.publish.run(changes)
        assert report is not None
        assert not report.failures
        return report

    def block_one(self, number: int) -> PublishReport:
        """Publishes one more block."""
        network = f"9.9.{number}.9/32"
        self.store([Block(network=network, blocked_at=NOW, until=NOW + 3600, rule="burst")])
        self.now += PACE_S
        return self(StreamChange(Block.kind, network, None, existed=False))

    def read_all_and_block_one(self, number: int) -> PublishReport:
        """Publishes one more block as every publish did before it followed the stream: reading everything twice."""
        self.restart()
        report = self.block_one(number)
        self.restart()
        self.beat()
        return report

    def beat(self) -> PublishReport:
        """Answers a heartbeat."""
        self.now += 60
        beat = Heartbeat(at=int(self.now))
        return self(StreamChange(Heartbeat.kind, Heartbeat.id, beat.to_json(), existed=True))

    def sweep(self) -> SweepReport:
        return Sweep(state=State(self.state), clock=lambda: self.now).run()

    def units(self, work: Callable[[], object]) -> tuple[float, float]:
        """Returns the read and write units of ``work``."""
        reads, writes = self.state.reads, self.state.writes
        work()
        return self.state.reads - reads, self.state.writes - writes

    def _sleep(self, seconds: float) -> None:
        self.now += seconds


def obvious(texts: Sequence[str], allowed: Sequence[str]) -> dict[int, list[Network]]:
    """Returns the networks to publish, by the shortest code: each network is compared with the whole allowlist."""
    networks = [ip_network(text) for text in texts]
    refused = [ip_network(text) for text in allowed]
    kept = [n for n in networks if not any(n.version == a.version and n.overlaps(a) for a in refused)]
    return {
        4: list(collapse_addresses(n for n in kept if isinstance(n, IPv4Network))),
        6: list(collapse_addresses(n for n in kept if isinstance(n, IPv6Network))),
    }


def figures() -> Iterator[Figure]:
    yield from planning(100_000)
    for number in (1_000, 10_000, 100_000):
        yield from one_more(Publishing(number), number)


def one_more(publishing: Publishing, number: int) -> Iterator[Figure]:
    """Figures of one more block among ``number``, and of a minute in which nothing happens."""
    begun = publishing.now
    first = publishing.beat()
    assert publishing.sets.total >= number * 0.99
    yield Figure(
        f"publishing {number:,} blocks from scratch",
        publishing.now - begun - 60,
        "s",
        None,
        f"{first.updates} updates, 1.1 s apart, as AWS accepts one per second; the clock stands still during work",
    )
    numbers = count()
    publishing.read_all_and_block_one(next(numbers))
    publishing.beat()
    publish_s, all_s = paired_cpu_s(
        lambda: partial(publishing.block_one, next(numbers)),
        lambda: partial(publishing.read_all_and_block_one, next(numbers)),
        rounds=3,
    )
    publishing.beat()
    reads, writes = publishing.units(lambda: publishing.block_one(next(numbers)))
    all_reads, _ = publishing.units(lambda: publishing.read_all_and_block_one(next(numbers)))
    # boto3 parses what is read, which the store in memory leaves out.
    publish_s, all_s = publish_s + ITEM_S, all_s + 2 * ITEM_S * number
    of_all = 0.1 if number == 100_000 else None
    yield Figure(
        f"publish CPU of one new block among {number:,} / reading everything",
        publish_s / all_s,
        "x",
        of_all,
        f"{publish_s * 1000:.0f} ms / {all_s * 1000:,.0f} ms, with {ITEM_S * 1e6:.0f} µs for boto3 to parse each item",
    )
    yield Figure(
        f"units of one new block among {number:,} / reading everything",
        (reads + writes) / all_reads,
        "x",
        of_all,
        f"{reads:,.0f} read and {writes:,.0f} write units / {all_reads:,.0f}, reckoned from the items",
    )
    if number == 100_000:
        ours = {
            "cpu_s": (f"publish CPU of one new block among {number:,}", publish_s),
            "units": (f"units of one new block among {number:,}", reads + writes),
        }
        yield from against_earlier("publishing", number, ours, 0.1)
    (reads, writes), (swept, _) = publishing.units(publishing.beat), publishing.units(publishing.sweep)
    dollars = 43_800 * ((reads + swept) * PRICES["dynamodb.read_unit"] + writes * PRICES["dynamodb.write_unit"])
    yield Figure(
        f"a month of sweeps and heartbeats with {number:,} blocks",
        dollars + 4_380 * all_reads / 2 * PRICES["dynamodb.read_unit"],
        "$",
        None,
        f"per minute: publish {reads:,.0f} read units and {writes:,.0f} write units, sweep {swept:,.0f} read units; "
        f"and all blocks every ten minutes",
    )


def planning(number: int) -> Iterator[Figure]:
    blocked, sets = blocks(number), sets_for(number)
    texts = [block.network for block in blocked]
    allowed = NetworkSet(map(parse_network, ALLOWED))
    empty: dict[IpSet, frozenset[Network]] = {ip_set: frozenset() for ip_set in sets}

    def planned() -> None:
        next_contents(wanted(blocked, allowed, rooms_of(sets), NOW).networks, empty, allowed)

    ours, peer = paired_cpu_s(lambda: planned, lambda: lambda: obvious(texts, ALLOWED), rounds=2)
    yield Figure(
        f"planning {number:,} blocks / ipaddress",
        ours / peer,
        "x",
        None,
        f"{ours * 1000:.0f} ms, {len(sets)} empty sets; peer: ip_network, overlaps, collapse_addresses, no plan",
    )
