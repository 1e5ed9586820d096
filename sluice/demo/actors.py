"""Made-up visitors and attackers, each a generator of requests in order of time; repeatable for a seed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import merge
from ipaddress import IPv6Address
from random import Random

BROWSER = "Mozilla/5.0%20(Windows%20NT%2010.0;%20Win64;%20x64)%20AppleWebKit/537.36%20Chrome/141.0.0.0%20Safari/537.36"


@dataclass(frozen=True, slots=True)
class Request:
    at: float
    """Seconds from the start."""
    address: str
    path: str = "/"
    method: str = "GET"
    status: int = 200
    agent: str = BROWSER


@dataclass(frozen=True, slots=True)
class Actor:
    """A kind of client. ``networks`` are what an attacker is to be blocked as; a bystander is never to be."""

    name: str
    attacker: bool
    networks: tuple[str, ...]
    requests: Callable[[], Iterator[Request]]


@dataclass(frozen=True, slots=True)
class Hit:
    """A request and whose it is, or a record that is no log line at all."""

    at: float
    actor: str
    request: Request | None
    garbage: bytes = b""


def steady(
    rng: Random, address: Callable[[], str], rate: float, start: float, end: float, **request: object
) -> Iterator[Request]:
    """``rate`` requests a second from ``start`` to ``end``, a little unevenly."""
    at = start
    while at < end:
        yield Request(at, address(), **request)  # type: ignore[arg-type]
        at += rng.uniform(0.7, 1.3) / rate


def browsing(rng: Random, address: str, end: float, pause: tuple[float, float]) -> Iterator[Request]:
    """Page loads, each a burst of objects within a second or two, and a while of reading after each."""
    at = rng.uniform(0, pause[1])
    while at < end:
        yield Request(at, address, rng.choice(("/", "/news", "/shop", "/contact")))
        for number in range(rng.randrange(6, 25)):
            at += rng.expovariate(20)
            yield Request(at, address, f"/static/{number}.js", status=rng.choices((200, 304, 404), (90, 9, 1))[0])
        at += rng.uniform(*pause)


def cast(seed: int, seconds: float) -> list[Actor]:
    """Everybody who takes part. Attacks begin after a few seconds and are over well before ``seconds``."""
    over = seconds * 0.72

    def actor(
        name: str, attacker: bool, networks: tuple[str, ...], play: Callable[[Random], Iterator[Request]]
    ) -> Actor:
        return Actor(name, attacker, networks, lambda: play(Random(f"{seed}/{name}/{networks[0]}")))

    def one(name: str, address: str, rate: float, start: float, end: float, **request: object) -> Actor:
        attacker = name not in ("crawler", "health check")
        return actor(
            name, attacker, (f"{address}/32",), lambda rng: steady(rng, lambda: address, rate, start, end, **request)
        )

    def office(rng: Random) -> Iterator[Request]:
        people = [browsing(rng, "198.51.100.7", seconds, (60, 120)) for _ in range(14)]
        return merge(*people, key=lambda request: request.at)

    def straddler(rng: Random) -> Iterator[Request]:
        # Just under the limit on each side of the minute, nearly twice the limit across it.
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
        one("crawler", "66.249.66.1", 3, 0, seconds, agent="Mozilla/5.0%20(compatible;%20ExampleBot/2.1)"),
        one("health check", "198.51.100.200", 20, 0, seconds, path="/healthz", agent="probe/1.0"),
        one("flood", "203.0.113.1", 120, 5, over, path="/?cache=no"),
        one("slow attacker", "203.0.114.2", 6, 3, over, path="/api/prices"),
        actor("straddler", True, ("203.0.117.99/32",), straddler),
        actor("rotating IPv6", True, ("2001:db8:bad:1::/64",), rotating),
        *bots,
        actor("scraper fleet", True, ("192.0.2.0/24",), scrapers),
        one("login guesser", "203.0.115.3", 1.2, 4, over, path="/login", method="POST", status=401),
        one("404 scanner", "203.0.116.4", 2.5, 4, over, path="/.env", status=404, agent="-"),
    ]


ALLOWED = (("198.51.100.200/32", "health check"),)
"""The allowlist of the demo."""


def garbage(seed: int, seconds: float) -> Iterator[Hit]:
    """Records that are no log lines: noise, cut lines, lines with a wrong address or time."""
    rng = Random(f"{seed}/garbage")
    at = 0.0
    while at < seconds:
        piece = rng.choice(
            (
                rng.randbytes(40),
                b"1760000000.123\t192.0.2.1",
                b"yesterday\t192.0.2.1\t200\tGET\texample.com\t/\tid\t-\t-",
                b"1760000000.123\tx.x.x.x\t200\tGET\texample.com\t/\tid\t-\t-",
                b"\x1f\x8b" + rng.randbytes(30),
                b'{"timestamp": "now"}',
            )
        )
        yield Hit(at, "garbage", None, piece)
        at += rng.expovariate(4)


def play(actors: list[Actor], seed: int, seconds: float) -> Iterator[Hit]:
    """Everybody's requests in order of time."""

    def hits(actor: Actor) -> Iterator[Hit]:
        return (Hit(request.at, actor.name, request) for request in actor.requests() if request.at < seconds)

    return merge(*map(hits, actors), garbage(seed, seconds), key=lambda hit: hit.at)


def line(request: Request, time: float, status: int, number: int) -> bytes:
    """A real-time log line of the default fields."""
    return (
        f"{time:.3f}\t{request.address}\t{status}\t{request.method}\twww.example.com\t{request.path}"
        f"\tdemo-{number:012d}==\t{request.agent}\t-\n"
    ).encode()
