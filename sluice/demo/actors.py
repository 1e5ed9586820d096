"""Simulated visitors and attackers. Each generates its requests in order of time; the same seed repeats them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import merge
from ipaddress import IPv4Address, IPv6Address, ip_network
from itertools import islice
from random import Random
from typing import Any

BROWSER = "Mozilla/5.0%20(Windows%20NT%2010.0;%20Win64;%20x64)%20AppleWebKit/537.36%20Chrome/141.0.0.0%20Safari/537.36"
VISITORS, BOTS = 160, 300
TAKEN = ("66.249.66.1",)
"""Public addresses of other actors; the rest have those that documents use."""

BYSTANDERS = ("browser", "office", "crawler", "health check")


@dataclass(frozen=True, slots=True)
class Request:
    at: float
    """Seconds since the start."""
    address: str
    path: str = "/"
    method: str = "GET"
    status: int = 200
    agent: str = BROWSER


@dataclass(frozen=True, slots=True)
class Actor:
    """A client, or several that share an address or a network."""

    name: str
    """Kind of client."""
    network: str
    """Network that must be blocked if the actor is an attacker, and must not be if it is a bystander."""
    requests: Callable[[], Iterator[Request]]

    @property
    def attacker(self) -> bool:
        return self.name not in BYSTANDERS


@dataclass(frozen=True, slots=True)
class Hit:
    """A request and its actor, or a record that is not a log line."""

    at: float
    actor: str
    request: Request | None
    garbage: bytes = b""


def steady(
    rng: Random, address: Callable[[], str], rate: float, start: float, end: float, **request: Any
) -> Iterator[Request]:
    """Yields ``rate`` requests per second from ``start`` to ``end``, slightly uneven."""
    at = start
    while at < end:
        yield Request(at, address(), **request)
        at += rng.uniform(0.7, 1.3) / rate


def browsing(rng: Random, address: str, end: float, pause: tuple[float, float]) -> Iterator[Request]:
    """Yields page loads: a burst of requests within a second or two, then a pause for reading."""
    at = rng.uniform(0, pause[1])
    while at < end:
        yield Request(at, address, rng.choice(("/", "/news", "/shop", "/contact")))
        for number in range(rng.randrange(6, 25)):
            at += rng.expovariate(20)
            yield Request(at, address, f"/static/{number}.js", status=rng.choices((200, 304, 404), (90, 9, 1))[0])
        at += rng.uniform(*pause)


def actor(seed: object, name: str, network: str, play: Callable[[Random], Iterator[Request]]) -> Actor:
    """Returns an actor whose random choices depend on ``seed``, its name and its network alone."""
    return Actor(name, network, lambda: play(Random(f"{seed}/{name}/{network}")))


def robot(seed: object, name: str, network: str, rate: float, start: float, end: float, **request: Any) -> Actor:
    """Returns an actor that makes ``rate`` requests per second, all from the first address of its network."""
    address = network.partition("/")[0]
    return actor(seed, name, network, lambda rng: steady(rng, lambda: address, rate, start, end, **request))


def visitor(seed: object, address: str, end: float, pause: tuple[float, float]) -> Actor:
    return actor(seed, "browser", f"{address}/32", lambda rng: browsing(rng, address, end, pause))


def office(seed: object, people: int, end: float, pause: tuple[float, float]) -> Actor:
    """Returns an actor that stands for several people who share an address."""

    def play(rng: Random) -> Iterator[Request]:
        return merge(*(browsing(rng, "198.51.100.7", end, pause) for _ in range(people)), key=lambda each: each.at)

    return actor(seed, "office", "198.51.100.7/32", play)


def health_check(seed: object, rate: float, end: float) -> Actor:
    return robot(seed, "health check", ALLOWED[0][0], rate, 0, end, path="/healthz", agent="probe/1.0")


def crawler(seed: object, rate: float, end: float) -> Actor:
    agent = "Mozilla/5.0%20(compatible;%20ExampleBot/2.1)"
    return robot(seed, "crawler", "66.249.66.1/32", rate, 0, end, agent=agent)


def public_addresses(rng: Random) -> Iterator[str]:
    """Yields addresses as clients at an edge have them, each in another /24. They are random, and stand for no one."""
    seen = {str(ip_network(f"{taken}/24", strict=False)) for taken in TAKEN}
    while True:
        address = IPv4Address(rng.randrange(1 << 24, 224 << 24))
        network = str(ip_network(f"{address}/24", strict=False))
        if address.is_global and network not in seen:
            seen.add(network)
            yield str(address)


def cast(seed: int, seconds: float) -> list[Actor]:
    """Returns all actors. Attacks begin after a few seconds and end well before ``seconds``."""
    over = seconds * 0.72  # leaves time for the last blocks to be lifted

    def straddler(rng: Random) -> Iterator[Request]:
        # Just under the limit on each side of the minute boundary, nearly twice the limit across it.
        for number in range(96):
            yield Request(20 - 2.4 + number * 0.05 + rng.uniform(0, 0.02), "203.0.117.99", f"/api/item/{number}")

    def rotating(rng: Random) -> Iterator[Request]:
        network = int(IPv6Address("2001:db8:bad:1::"))
        return steady(rng, lambda: str(IPv6Address(network + rng.getrandbits(64))), 15, 8, over)

    def scrapers(rng: Random) -> Iterator[Request]:
        fleet = [f"192.0.2.{last}" for last in range(10, 74)]
        return steady(rng, lambda: rng.choice(fleet), 55, 6, over, path="/catalogue/item")

    def bot(address: str) -> Actor:
        def play(rng: Random) -> Iterator[Request]:
            return steady(rng, lambda: address, 14, 10 + rng.uniform(0, 4), over * 0.6, path="/search?q=x")

        return actor(seed, "botnet", f"{address}/32", play)

    addresses = list(islice(public_addresses(Random(f"{seed}/addresses")), VISITORS + BOTS))
    return [
        *(visitor(seed, address, seconds, (7, 20)) for address in addresses[:VISITORS]),
        office(seed, 14, seconds, (60, 120)),
        crawler(seed, 3, seconds),
        health_check(seed, 20, seconds),
        robot(seed, "flood", "203.0.113.1/32", 120, 5, over, path="/?cache=no"),
        robot(seed, "slow attacker", "203.0.114.2/32", 6, 3, over, path="/api/prices"),
        actor(seed, "straddler", "203.0.117.99/32", straddler),
        actor(seed, "rotating IPv6", "2001:db8:bad:1::/64", rotating),
        *(bot(address) for address in addresses[VISITORS:]),
        actor(seed, "scraper fleet", "192.0.2.0/24", scrapers),
        robot(seed, "login guesser", "203.0.115.3/32", 1.2, 4, over, path="/login", method="POST", status=401),
        robot(seed, "404 scanner", "203.0.116.4/32", 2.5, 4, over, path="/.env", status=404, agent="-"),
    ]


ALLOWED = (("198.51.100.200/32", "health check"),)
"""The demo's allowlist: networks and comments."""


def garbage(seed: int, seconds: float) -> Iterator[Hit]:
    """Yields records that are not log lines: noise, truncated lines, lines with a bad address or time."""
    rng = Random(f"{seed}/garbage")
    at = 0.0
    while at < seconds:
        record = rng.choice(
            (
                rng.randbytes(40),
                b"1760000000.123\t192.0.2.1",
                b"yesterday\t192.0.2.1\t200\tGET\texample.com\t/\tid\t-\t-",
                b"1760000000.123\tx.x.x.x\t200\tGET\texample.com\t/\tid\t-\t-",
                b"\x1f\x8b\x08" + rng.randbytes(30),
                b'{"timestamp": "now"}',
            )
        )
        yield Hit(at, "garbage", None, record)
        at += rng.expovariate(4)


def play(actors: list[Actor], seed: int, seconds: float) -> Iterator[Hit]:
    """Yields the requests of all actors, and garbage, in order of time."""

    def hits(actor: Actor) -> Iterator[Hit]:
        return (Hit(request.at, actor.name, request) for request in actor.requests() if request.at < seconds)

    return merge(*map(hits, actors), garbage(seed, seconds), key=lambda hit: hit.at)


def log_line(request: Request, time: float, status: int, number: int) -> bytes:
    """Returns a real-time log line with the default fields. ``number`` makes its request id unique."""
    return (
        f"{time:.3f}\t{request.address}\t{status}\t{request.method}\twww.example.com\t{request.path}"
        f"\tdemo-{number:012d}==\t{request.agent}\t-\n"
    ).encode()
