"""Whom the initial rules name, on logs in the shape of real ones: attackers, and nobody else.

The figures are those of docs/rules.md, measured on public logs.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from chalicelib.core.paths import is_static
from sluice.cli import main

START_S = 1_760_000_000

Request = tuple[int, str, str, str, int]
"""Second, client, method, path and status."""


def page(at: int, client: str, path: str, files: int, seconds: int = 2) -> Iterator[Request]:
    """Yields the requests of a page view, whose files come within ``seconds`` of the page."""
    yield at, client, "GET", path, 200
    for number in range(files):
        yield at + number * seconds // max(files, 1), client, "GET", f"/static/{path.strip('/')}-{number}.png", 200


def evenly(
    client: str, number: int, seconds: int, path: str, status: int = 200, method: str = "GET", start: int = 0
) -> Iterator[Request]:
    """Yields requests of one client at a steady pace; ``path`` may hold the number of the request."""
    for n in range(number):
        yield start + n * seconds // number, client, method, path.format(n=n), status


def shoppers() -> Iterator[Request]:
    """Two browsers behind one address: five pages and 139 files of theirs within five seconds."""
    for visit, files in enumerate((30, 28, 27, 27, 27)):
        yield from page(visit // 2, "192.0.2.1", f"/product/{visit}", files)
    for minute in range(10):
        yield from page(60 * minute, "192.0.2.2", f"/category/{minute}", 36)


def an_office() -> Iterator[Request]:
    """Thirty people behind one address: ten pages within five seconds when a meeting ends, and ten log-ins a minute.

    Thirty others have a /64 each of one /48, and log in twice.
    """
    for person in range(10):
        yield from page(person // 2, "192.0.2.10", f"/start/{person}", 12)
    yield from evenly("192.0.2.10", 10, 60, "/login", 302, "POST", start=30)
    for person in range(30):
        yield from evenly(f"2001:db8:1:{person}::7", 2, 60, "/login", 302, "POST", start=30)


def reader_of_a_broken_page() -> Iterator[Request]:
    """Forty images of one page are missing."""
    yield 0, "192.0.2.20", "GET", "/gallery", 200
    for number in range(40):
        yield number // 20, "192.0.2.20", "GET", f"/photos/{number}.jpg", 404


def crawlers() -> Iterator[Request]:
    """A page each second for ten minutes and more, and another that follows fourteen broken links in a minute."""
    yield from evenly("192.0.2.30", 740, 600, "/archive/{n}")
    yield from evenly("192.0.2.31", 14, 50, "/moved/{n}", 404)


def programs() -> Iterator[Request]:
    """A program that asks an API in bursts: 34 times in five seconds, 175 times in a minute."""
    yield from evenly("192.0.2.40", 34, 5, "/erddap/tabledap/{n}.csv")
    yield from evenly("192.0.2.40", 141, 55, "/erddap/version", start=5)


PEOPLE = {
    "shoppers": shoppers,
    "an office": an_office,
    "a reader of a broken page": reader_of_a_broken_page,
    "crawlers": crawlers,
    "programs": programs,
}

ATTACKS: dict[str, tuple[list[Request], dict[str, set[str]]]] = {
    "a flood of three addresses": (
        [
            *evenly("203.0.113.1", 655, 3, "/", 499),
            *evenly("203.0.113.2", 102, 3, "/", 499),
            *evenly("203.0.113.3", 99, 3, "/", 499),
        ],
        {
            "burst": {"203.0.113.1/32", "203.0.113.2/32", "203.0.113.3/32"},
            "sustained": {"203.0.113.1/32"},
            "scanner": {"203.0.113.1/32", "203.0.113.2/32", "203.0.113.3/32"},
        },
    ),
    "a search for secrets, 77 paths a minute": (
        [*evenly("203.0.113.10", 428, 333, "/{n}/.env", 404)],
        {"scanner": {"203.0.113.10/32"}},
    ),
    "searches for phpMyAdmin, 25 paths in half a minute": (
        [
            request
            for number in range(5)
            for request in evenly(f"203.0.113.{20 + number}", 25, 30, "/phpmyadmin{n}/index.php", 404)
        ],
        {"scanner": {f"203.0.113.{20 + number}/32" for number in range(5)}},
    ),
    "guesses of passwords, however the path is written": (
        [
            request
            for number, path in enumerate(("/login", "//login", "/%6Cogin", "/a/../login", "/./wp-login.php"))
            for request in evenly("203.0.113.30", 3, 10, path, 200, "POST", start=10 * number)
        ],
        {"login": {"203.0.113.30/32"}},
    ),
    "guesses of passwords from one IPv6 /48, ten from each /64": (
        [
            request
            for number in range(40)
            for request in evenly(f"2001:db8:7:{number:x}::1", 10, 55, "/login", 200, "POST")
        ],
        {"login-network": {"2001:db8:7::/48"}},
    ),
    "guesses of passwords from one IPv4 /24, ten from each address": (
        [request for number in range(40) for request in evenly(f"198.51.100.{number}", 10, 55, "/login", 200, "POST")],
        {"login-network": {"198.51.100.0/24"}},
    ),
    "pages faster than anybody reads": (
        [*evenly("203.0.113.40", 400, 62, "/product/{n}")],
        {"sustained": {"203.0.113.40/32"}},
    ),
    "a flood that hides behind an ending": (
        [*evenly("203.0.113.50", 4000, 60, "/search/{n}.css", 200)],
        {"flood": {"203.0.113.50/32"}},
    ),
}


def line(request: Request) -> str:
    second, client, method, path, status = request
    stamp = datetime.fromtimestamp(START_S + second, UTC).strftime("%d/%b/%Y:%H:%M:%S %z")
    return f'{client} - - [{stamp}] "{method} {path} HTTP/1.1" {status} 512 "-" "Mozilla/5.0"\n'


def named(requests: Iterable[Request]) -> dict[str, set[str]]:
    """Returns the clients that each initial rule names, without the rules that name none."""
    log = "".join(map(line, sorted(requests)))
    answer = CliRunner().invoke(main, ["replay", "-", "--json", "--top", "1000"], input=log, catch_exceptions=False)
    offenders: dict[str, set[str]] = defaultdict(set)
    for offender in json.loads(answer.stdout)["offenders"]:
        offenders[offender["rule"]].add(offender["client"])
    return dict(offenders)


@pytest.mark.parametrize("who", PEOPLE)
def test_the_initial_rules_name_nobody(who: str) -> None:
    assert named(PEOPLE[who]()) == {}


def test_a_shopper_makes_more_requests_than_a_flood_but_fewer_page_views() -> None:
    first = [request for request in shoppers() if request[1] == "192.0.2.1"]
    assert len(first) == 144
    assert max(request[0] for request in first) <= 5
    assert sum(not is_static(request[3]) for request in first) == 5


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_initial_rules_name_attackers_alone(attack: str) -> None:
    requests, expected = ATTACKS[attack]
    people = [request for who in PEOPLE.values() for request in who()]
    assert named([*people, *requests]) == expected
