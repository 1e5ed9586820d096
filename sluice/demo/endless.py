"""Endless simulated traffic: visitors all the time, and a wave of attackers every few minutes."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice, starmap
from random import Random
from typing import Any

from sluice.demo.actors import Actor, Hit, crawler, health_check, office, play, public_addresses, robot, visitor

ROUND_S = 240.0
"""Seconds per round; each round has one wave of attackers."""

LATER_WAVES_S = 20.0
"""Seconds from the start of a round to its first attacker, except in the first round."""

VISITORS = 90
BOTS = 24


def endless_hits(seed: int, start_in: float = 0.0) -> Iterator[Hit]:
    """Yields hits without end, in order of time. ``start_in``: seconds until the first attacker."""
    for number in count():
        begins = number * ROUND_S
        first = start_in if number == 0 else LATER_WAVES_S
        round_seed = f"{seed}/{number}"
        actors = [*bystanders(round_seed), *attackers(round_seed, first)]
        for hit in play(actors, seed + number, ROUND_S):
            yield replace(hit, at=begins + hit.at)


def bystanders(seed: str) -> list[Actor]:
    """Returns the clients of every round, none of which may ever be blocked."""
    addresses = islice(public_addresses(Random("visitors")), VISITORS)
    return [
        *(visitor(seed, address, ROUND_S, (9, 40)) for address in addresses),
        office(seed, 8, ROUND_S, (60, 200)),
        crawler(seed, 2, ROUND_S),
        health_check(seed, 8, ROUND_S),
    ]


def attackers(seed: str, first: float) -> list[Actor]:
    """Returns the attackers of a round, with new addresses; the first starts after ``first`` seconds."""
    addresses = Random(f"{seed}/attack")
    last = addresses.randrange(1, 250)

    def attacker(name: str, network: str, start: float, length: float, rate: float, **request: Any) -> Actor:
        return robot(seed, name, network, rate, first + start, first + start + length, **request)

    def bot(index: int, address: str) -> Actor:
        return attacker("botnet", f"{address}/32", 45 + index / 3, 25, 14, path="/search?q=x")

    return [
        attacker("flood", f"203.0.113.{last}/32", 0, 40, 45, path="/?cache=no"),
        attacker("login guesser", f"203.0.115.{last}/32", 10, 100, 1.2, path="/login", method="POST", status=401),
        attacker("404 scanner", f"203.0.116.{last}/32", 30, 60, 2.5, path="/.env", status=404, agent="-"),
        attacker("price scraper", f"203.0.114.{last}/32", 20, 150, 7, path="/api/prices"),
        attacker("rotating IPv6", f"2001:db8:bad:{last:x}::/64", 60, 60, 15),
        *starmap(bot, enumerate(islice(public_addresses(addresses), BOTS))),
    ]
