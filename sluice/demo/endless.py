"""A small site that never closes: visitors all the time, and a wave of attackers every few minutes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from heapq import merge
from itertools import count
from random import Random

from sluice.demo.actors import Actor, Hit, Request, browsing, play, steady

ROUND_S = 240.0
VISITORS = 90
BOTS = 24


def open_all_hours(seed: int, start_in: float = 0.0) -> Iterator[Hit]:
    """Hits without end, in order of time. ``start_in``: seconds until the first attacker comes."""
    for number in count():
        begins = number * ROUND_S
        wave = start_in if number == 0 else 20.0
        actors = [*everyday(f"{seed}/{number}"), *attack(seed, number, wave)]
        for hit in play(actors, seed + number, ROUND_S):
            yield replace(hit, at=begins + hit.at)


def everyday(seed: str) -> list[Actor]:
    """Whoever is there in any round, and must never be blocked."""

    def of(name: str, address: str, requests: Callable[[Random], Iterator[Request]]) -> Actor:
        return Actor(name, False, (f"{address}/32",), lambda: requests(Random(f"{seed}/{address}")))

    def visitor(address: str) -> Actor:
        return of("browser", address, lambda rng: browsing(rng, address, ROUND_S, (9, 40)))

    def office(rng: Random) -> Iterator[Request]:
        people = [browsing(rng, "198.51.100.7", ROUND_S, (60, 200)) for _ in range(8)]
        return merge(*people, key=lambda request: request.at)

    def regular(rate: float, address: str, **request: object) -> Callable[[Random], Iterator[Request]]:
        return lambda rng: steady(rng, lambda: address, rate, 0, ROUND_S, **request)

    return [
        *(visitor(f"100.{64 + number}.{number * 7 % 200}.20") for number in range(VISITORS)),
        of("office", "198.51.100.7", office),
        of("crawler", "66.249.66.1", regular(2, "66.249.66.1", agent="Mozilla/5.0%20(compatible;%20ExampleBot/2.1)")),
        of("health check", "198.51.100.200", regular(8, "198.51.100.200", path="/healthz", agent="probe/1.0")),
    ]


def attack(seed: int, number: int, first: float) -> list[Actor]:
    """The attackers of round ``number``, from other addresses each time; the first comes after ``first`` seconds."""
    some = Random(f"{seed}/{number}/attack")
    last = some.randrange(1, 250)

    def of(name: str, network: str, start: float, length: float, rate: float, **request: object) -> Actor:
        address = network.partition("/")[0]
        begins = first + start
        rng = Random(f"{seed}/{number}/{network}")
        return Actor(
            name, True, (network,), lambda: steady(rng, lambda: address, rate, begins, begins + length, **request)
        )

    bots = [
        of("botnet", f"172.{16 + number % 16}.{some.randrange(256)}.{bot}/32", 45 + bot / 3, 25, 14, path="/search?q=x")
        for bot in range(BOTS)
    ]
    return [
        of("flood", f"203.0.113.{last}/32", 0, 40, 45, path="/?cache=no"),
        of("login guesser", f"203.0.115.{last}/32", 10, 100, 1.2, path="/login", method="POST", status=401),
        of("404 scanner", f"203.0.116.{last}/32", 30, 60, 2.5, path="/.env", status=404, agent="-"),
        of("price scraper", f"203.0.114.{last}/32", 20, 150, 7, path="/api/prices"),
        of("rotating IPv6", f"2001:db8:bad:{last:x}::/64", 60, 60, 15),
        *bots,
    ]
