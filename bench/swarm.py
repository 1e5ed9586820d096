"""A swarm of millions of addresses with few requests each, against limits, networks, distinct paths and countries.

``python -m bench.swarm`` draws a swarm and regular clients. For each rule, it shows the share of the swarm's requests
that are refused, and the share of the regular clients that are hit.

Rates and countries are those of a real swarm: the wiki of Semantic Lab, 27 September to 9 October 2025, and the day
after the swarm had stopped (``wb_traffic_per_minute_geo.json`` of github.com/thisismattmiller/wb-access-logs, MIT).
``--fit FILE`` computes the constants from that file. Unpublished is which requests belong to one address, and which
addresses to one network. So two swarms are drawn, which bound what is possible: *scattered* is the worst case for a
limit, *clumped* the best.
"""

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from statistics import pstdev
from typing import Any, NamedTuple

import click

from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_toml import parse_rules
from sluice.logs.files import Chunk
from sluice.replay.engine import Options, Result, replay

LAST_DAY, CALM_DAY = "2025-10-09", "2025-10-10"
"""The last day of the swarm, and the day without it."""


class Traffic(NamedTuple):
    per_minute: float
    """Requests, on average."""
    deviation: float
    """Standard deviation of the requests per minute."""
    countries: Mapping[str, float]
    """Shares of the largest countries."""


SWARM = Traffic(613, 181, {"BR": 0.474, "VN": 0.202, "CH": 0.049, "AR": 0.04, "EC": 0.017, "SG": 0.017, "BD": 0.015})
"""The days with the swarm, less the day without."""
REGULAR = Traffic(137, 151, {"US": 0.749, "GB": 0.122, "DE": 0.032, "BR": 0.022, "SG": 0.01, "IT": 0.006, "CN": 0.005})

ADDRESSES, REQUESTS_PER_ADDRESS = 3_953_600, 3.5
"""The swarm's, in two weeks."""
ADDRESSES_PER_NETWORK = 207
"""Addresses of a /24 where they are clumped, as those of one declared bot on the same site: 15,927 in 77 networks."""
NETWORKS = 1 << 22
"""The /24 from which all clients come: regulars from any, a scattered swarm from one per address."""

START_S, HOURS = 1_759_000_000, 2
CLUMP_S, VISIT_S, PAGES_PER_VISIT = 600, 600, 12
"""Seconds of the visits of a clumped address and of a regular client, and the mean pages of the latter: assumed."""
PATHS = 100_000

HEADINGS = (
    "blocked for a day after",
    *("scattered: refused", "regulars hit", "blocks"),
    *("clumped: refused", "regulars hit", "blocks"),
)
RULES: Mapping[str, str | None] = {
    "the initial rules": None,
    "4 requests in 1h, per address": 'limit = 3\nwindow = "1h"',
    "2 requests in 1h, per address": 'limit = 1\nwindow = "1h"',
    "61 requests in 10m, per /24": 'limit = 60\nwindow = "10m"\naggregate = { ipv4 = 24, ipv6 = 48 }',
    "5 different paths in 1h, per address": 'limit = 4\nwindow = "1h"\ndistinct = "path"',
    "61 different paths in 10m, per /24": (
        'limit = 60\nwindow = "10m"\ndistinct = "path"\naggregate = { ipv4 = 24, ipv6 = 48 }'
    ),
    "2 requests in 1h, in BR and VN": 'limit = 1\nwindow = "1h"\nscope = { country = ["BR", "VN"] }',
    "1 request, in BR and VN": 'limit = 0\nwindow = "1h"\nscope = { country = ["BR", "VN"] }',
}
"""Rules by what a client must do to be blocked for a day; None for those that setup installs, which block then."""
INITIAL = Path(__file__).parents[1] / "chalicelib" / "rules.toml"


class Request(NamedTuple):
    at: int
    """Epoch second."""
    client: str
    country: str
    path: int
    of_swarm: bool


class Effect(NamedTuple):
    rule: str
    swarm: str
    """``scattered`` or ``clumped``."""
    refused: float
    """Share of the swarm's requests."""
    hit: float
    """Share of the regular clients of which a request is refused."""
    blocks: int


def rule_set(text: str | None) -> RuleSet:
    if text is None:
        return parse_rules(INITIAL.read_text().replace('action = "count"', 'action = "block"'))
    return parse_rules(f'[[rule]]\nname = "rule"\nblock_for = "24h"\n{text}\n')


def _country(traffic: Traffic, random: Random) -> str:
    place = random.random()
    for country, share in traffic.countries.items():
        place -= share
        if place < 0:
            return country
    return "ZZ"


def _address(network: int, host: int) -> str:
    return str(IPv4Address((1 << 30) + (network << 8) + host))


def _moments(traffic: Traffic, minutes: int, random: Random) -> Iterator[int]:
    """Yields a time for each request, minute by minute."""
    for minute in range(minutes):
        for _ in range(max(0, round(random.gauss(traffic.per_minute, traffic.deviation)))):
            yield START_S + minute * 60 + random.randrange(60)


def _visits(traffic: Traffic, minutes: int, pages: float, random: Random) -> Iterator[tuple[int, int]]:
    """Yields begin and number of requests of visits with ``pages`` on average, so many that the rate is kept."""
    for begin in _moments(traffic, minutes, random):
        if random.random() < 1 / pages:
            length = 1
            while random.random() > 1 / pages:
                length += 1
            yield begin, length


def scattered(minutes: int, random: Random) -> Iterator[Request]:
    """Yields requests of a swarm, each from any of its addresses, which have a network each."""
    for at in _moments(SWARM, minutes, random):
        network = random.randrange(ADDRESSES)
        yield Request(at, _address(network, 7), _country(SWARM, random), random.randrange(PATHS), True)


def clumped(minutes: int, random: Random) -> Iterator[Request]:
    """Yields requests of a swarm that uses up one network after another, and an address within ten minutes."""
    for number, (begin, length) in enumerate(_visits(SWARM, minutes, REQUESTS_PER_ADDRESS, random)):
        client = _address(*divmod(number, ADDRESSES_PER_NETWORK))
        country = _country(SWARM, random)
        for _ in range(length):
            yield Request(begin + random.randrange(CLUMP_S), client, country, random.randrange(PATHS), True)


def regulars(minutes: int, random: Random) -> Iterator[Request]:
    for begin, length in _visits(REGULAR, minutes, PAGES_PER_VISIT, random):
        client = _address(random.randrange(NETWORKS), 240 + random.randrange(14))
        country = _country(REGULAR, random)
        for _ in range(length):
            yield Request(begin + random.randrange(VISIT_S), client, country, random.randrange(PATHS), False)


SWARMS: Mapping[str, Callable[[int, Random], Iterable[Request]]] = {"scattered": scattered, "clumped": clumped}


def chunk(requests: Iterable[Request]) -> Chunk:
    """Returns a log in the form of CloudFront's standard one."""
    lines = ["#Fields: date time c-ip cs-method cs-uri-stem sc-status c-country"]
    for request in requests:
        moment = datetime.fromtimestamp(request.at, UTC)
        lines.append(
            f"{moment:%Y-%m-%d\t%H:%M:%S}\t{request.client}\tGET\t/wiki/{request.path}\t200\t{request.country}"
        )
    return Chunk("\n".join([*lines, ""]).encode())


def refused(requests: Iterable[Request], result: Result) -> list[Request]:
    """Returns the requests that the blocks of ``result`` refuse."""
    blocks: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    lengths = set()
    for breach in result.breaches:
        blocks[str(breach.network)] += [(period.since, period.until) for period in breach.periods]
        lengths.add(breach.network.prefixlen)
    return [
        request
        for request in requests
        if any(
            since <= request.at < until
            for length in lengths
            for since, until in blocks.get(_network(request.client, length), ())
        )
    ]


def _network(client: str, length: int) -> str:
    return f"{IPv4Address(int(IPv4Address(client)) >> 32 - length << 32 - length)}/{length}"


def effects(hours: float, rules: Mapping[str, str | None], seed: int) -> Iterator[Effect]:
    """Yields the effect of each of ``rules``, tried by `sluice replay` two seconds late, on each swarm."""
    minutes = round(hours * 60)
    sets = {name: rule_set(text) for name, text in rules.items()}
    for swarm, make in SWARMS.items():
        random = Random(seed)
        requests = [*make(minutes, random), *regulars(minutes, random)]
        of_swarm = sum(request.of_swarm for request in requests)
        clients = {request.client for request in requests if not request.of_swarm}
        for name, result in zip(sets, replay([chunk(requests)], list(sets.values()), Options(delay_s=2)), strict=True):
            met = refused(requests, result)
            hit = {request.client for request in met if not request.of_swarm}
            share = sum(request.of_swarm for request in met) / of_swarm
            blocks = sum(len(breach.periods) for breach in result.breaches)
            yield Effect(name, swarm, share, len(hit) / len(clients), blocks)


def fit(file: Path) -> tuple[Traffic, Traffic]:
    """Returns swarm and regular traffic from ``wb_traffic_per_minute_geo.json``, plain or gzip."""
    data = file.read_bytes()
    minutes = json.loads(gzip.decompress(data) if file.suffix == ".gz" else data)["time_series"]
    busy, calm = (
        [minute for minute in minutes if first <= minute["timestamp"][:10] <= last]
        for first, last in (("", LAST_DAY), (CALM_DAY, CALM_DAY))
    )
    regular = _by_country(calm)
    added = {country: number - regular[country] for country, number in _by_country(busy).items()}
    return (
        _traffic({country: number for country, number in added.items() if number > 0}, busy),
        _traffic(regular, calm),
    )


def _by_country(minutes: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Returns the requests per minute of each country."""
    total: Counter[str] = Counter()
    for minute in minutes:
        total.update({country: entry["count"] for country, entry in minute["countries"].items()})
    return Counter({country: number / len(minutes) for country, number in total.items()})


def _traffic(by_country: Mapping[str, float], minutes: Sequence[Mapping[str, Any]]) -> Traffic:
    rate = sum(by_country.values())
    largest = sorted(by_country.items(), key=lambda entry: -entry[1])[:7]
    shares = {country: round(number / rate, 3) for country, number in largest}
    return Traffic(round(rate), round(pstdev(minute["requests"] for minute in minutes)), shares)


def markdown(measured: Iterable[Effect]) -> str:
    """Returns a row for each rule: what it refuses and whom it hits, of a scattered and of a clumped swarm."""
    rows: defaultdict[str, list[str]] = defaultdict(list)
    for effect in measured:
        rows[effect.rule] += [f"{effect.refused:.1%}", f"{effect.hit:.1%}", f"{effect.blocks:,}"]
    return "\n".join(
        [
            f"| {' | '.join(HEADINGS)} |",
            "|---" + "|---:" * (len(HEADINGS) - 1) + "|",
            *(f"| {rule} | {' | '.join(cells)} |" for rule, cells in rows.items()),
        ]
    )


@click.command()
@click.option("--hours", type=click.FloatRange(0.1, 48), default=HOURS, show_default=True, help="Length of the log.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--fit", "file", type=click.Path(path_type=Path, exists=True), help="Print the constants from this file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(hours: float, seed: int, file: Path | None, as_json: bool) -> None:
    """Show what rules do to a swarm with few requests per address, and to the regular clients beside it."""
    if file is not None:
        swarm, regular = fit(file)
        click.echo(json.dumps({"swarm": swarm._asdict(), "regular": regular._asdict()}, indent=1))
        return
    measured = list(effects(hours, RULES, seed))
    if as_json:
        click.echo(json.dumps({"hours": hours, "effects": [effect._asdict() for effect in measured]}, indent=1))
    else:
        click.echo(markdown(measured))


if __name__ == "__main__":
    main()
