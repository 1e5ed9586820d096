"""Made-up visitors and attackers. Each generates its requests in order of time; the same seed repeats them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import merge
from ipaddress import IPv6Address
from random import Random

BROWSER = "Mozilla/5.0%20(Windows%20NT%2010.0;%20Win64;%20x64)%20AppleWebKit/537.36%20Chrome/141.0.0.0%20Safari/537.36"


@dataclass(frozen=True, slots=True)
class Request:
    """A request of an actor."""

    at: float
    """Seconds since the start."""
    address: str
    path: str = "/"
    method: str = "GET"
    status: int = 200
    agent: str = BROWSER


@dataclass(frozen=True, slots=True)
class Actor:
    """A client, or several that share an address."""

    name: str
    """Kind of client."""
    attacker: bool
    networks: tuple[str, ...]
    """Networks under which an attacker must be blocked, and a bystander must not."""
    requests: Callable[[], Iterator[Request]]


@dataclass(frozen=True, slots=True)
class Hit:
    """A request and its actor, or a record that is not a log line."""

    at: float
    actor: str
    request: Request | None
    garbage: bytes = b""


def steady(
    rng: Random, address: Callable[[], str], rate: float, start: float, end: float, **request: object
) -> Iterator[Request]:
    """Yields ``rate`` requests per second from ``start`` to ``end``, slightly uneven."""
    at = start
    while at < end:
        yield Request(at, address(), **request)  # type: ignore[arg-type]
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


def cast(seed: int, seconds: float) -> list[Actor]:
    """Returns all actors. Attacks begin after a few seconds and end well before ``seconds``."""
    over = seconds * 0.72  # leaves time for the last blocks to be lifted

    def actor(
        name: str, attacker: bool, networks: tuple[str, ...], play: Callable[[Random], Iterator[Request]]
    ) -> Actor:
        return Actor(name, attacker, networks, lambda: play(Random(f"{seed}/{name}/{networks[0]}")))

    def regular(name: str, address: str, rate: float, start: float, end: float, **request: object) -> Actor:
        attacker = name not in ("crawler", "health check")
        return actor(
            name, attacker, (f"{address}/32",), lambda rng: steady(rng, lambda: address, rate, start, end, **request)
        )

    def office(rng: Random) -> Iterator[Request]:
        people = [browsing(rng, "198.51.100.7", seconds, (60, 120)) for _ in range(14)]
        return merge(*people, key=lambda request: request.at)

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

    visitors = [
        actor("browser", False, (f"{address}/32",), lambda rng, a=address: browsing(rng, a, seconds, (7, 20)))  # type: ignore[misc]
        for address in (f"100.{64 + number // 200}.{number % 200}.20" for number in range(160))
    ]
    bots = [
        actor(
            "botnet",
            True,
            (f"{address}/32",),
            lambda rng, a=address: steady(rng, lambda: a, 14, 10 + rng.uniform(0, 4), over * 0.6, path="/search?q=x"),  # type: ignore[misc]
        )
        for address in (f"172.{16 + number // 200}.{number % 200}.66" for number in range(300))
    ]
    return [
        *visitors,
        actor("office", False, ("198.51.100.7/32",), office),
        regular("crawler", "66.249.66.1", 3, 0, seconds, agent="Mozilla/5.0%20(compatible;%20ExampleBot/2.1)"),
        regular("health check", "198.51.100.200", 20, 0, seconds, path="/healthz", agent="probe/1.0"),
        regular("flood", "203.0.113.1", 120, 5, over, path="/?cache=no"),
        regular("slow attacker", "203.0.114.2", 6, 3, over, path="/api/prices"),
        actor("straddler", True, ("203.0.117.99/32",), straddler),
        actor("rotating IPv6", True, ("2001:db8:bad:1::/64",), rotating),
        *bots,
        actor("scraper fleet", True, ("192.0.2.0/24",), scrapers),
        regular("login guesser", "203.0.115.3", 1.2, 4, over, path="/login", method="POST", status=401),
        regular("404 scanner", "203.0.116.4", 2.5, 4, over, path="/.env", status=404, agent="-"),
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
                b"\x1f\x8b" + rng.randbytes(30),
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
