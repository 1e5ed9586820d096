"""Planning and publishing the IP sets with very many blocks, against a straightforward version on ``ipaddress``."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from random import Random

from bench.measure import Figure, cpu_s, paired_cpu_s
from chalicelib.core.addresses import Network, NetworkSet, parse_network
from chalicelib.core.ipsets import CAPACITY, IpSet, plan, wanted
from chalicelib.core.state import Block
from chalicelib.pipeline.publish import Publish
from chalicelib.pipeline.stored import State
from chalicelib.ports import StreamChange
from chalicelib.reports import PublishReport
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
        self.state = MemoryStateStore()
        self.sets = TextIpSets()
        self.store(blocks(number))
        self._publish = Publish(
            state=State(self.state), ip_sets=self.sets, sets=sets_for(number), clock=lambda: self.now, sleep=self._sleep
        )

    def store(self, blocks: Sequence[Block]) -> None:
        State(self.state).overwrite(*blocks)

    def __call__(self, *networks: str) -> PublishReport:
        report = self._publish.run([StreamChange(Block.kind, network, None, existed=True) for network in networks])
        assert report is not None
        assert not report.failures
        return report

    def block_one(self, number: int) -> PublishReport:
        """Publishes one more block."""
        network = f"9.9.{number}.9/32"
        self.store([Block(network=network, blocked_at=NOW, until=NOW + 3600, rule="burst")])
        return self(network)

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
    for number in (10_000, 50_000):
        publishing = Publishing(number)
        first = publishing("any")
        assert publishing.sets.total >= number * 0.99
        took = publishing.now - NOW
        yield Figure(
            f"publishing {number:,} blocks from scratch",
            took,
            "s",
            None,
            f"{first.updates} updates, 1.1 s apart, as AWS accepts one per second; the clock stands still during work",
        )
        reports: list[PublishReport] = []
        publish_s = cpu_s(lambda to=publishing, into=reports: into.append(to.block_one(len(into))), rounds=3)  # type: ignore[misc]
        read_s = cpu_s(lambda to=publishing: [Block.from_json(item.body) for item in to.state.query(Block.kind)])  # type: ignore[misc]
        yield Figure(
            f"updates for one new block among {number:,}", max(r.updates for r in reports), "updates", 1, "counted"
        )
        yield Figure(
            f"publish CPU of one new block among {number:,} / reading the blocks",
            publish_s / read_s,
            "x",
            None,
            f"{publish_s * 1000:.0f} ms; each publish reads and plans twice: before its update, and again after it",
        )


def planning(number: int) -> Iterator[Figure]:
    blocked, sets = blocks(number), sets_for(number)
    texts = [block.network for block in blocked]
    allowed = NetworkSet(map(parse_network, ALLOWED))
    rooms = {family: CAPACITY * sum(s.family == family for s in sets) for family in (4, 6)}

    def planned() -> None:
        publishable = wanted(blocked, allowed, rooms, NOW)
        for family, networks in publishable.networks.items():
            plan(networks, {s: frozenset() for s in sets if s.family == family})

    ours, peer = paired_cpu_s(lambda: planned, lambda: lambda: obvious(texts, ALLOWED), rounds=2)
    yield Figure(
        f"planning {number:,} blocks / ipaddress",
        ours / peer,
        "x",
        None,
        f"{ours * 1000:.0f} ms, {len(sets)} empty sets; peer: ip_network, overlaps, collapse_addresses, no plan",
    )
