"""Each rule of the page on problems names who it is meant for, and nobody else."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS
from chalicelib.core.rules import Action
from chalicelib.core.rules_toml import parse_rules
from sluice.cli import main
from tests.support.records import cloudfront, waf_text

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text("utf-8")
RECIPES = {
    title: "".join(re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    for title, text in re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", PAGE, re.MULTILINE)
    if "```toml" in text
}
FIELDS = (*DEFAULT_FIELDS, "c-country", "asn", "cs-header-names", "sc-bytes")
START_S = 1_760_000_000
VERIFIED = {"labels": [{"name": "awswaf:managed:aws:bot-control:bot:verified"}]}


def requests(client: str, number: int, seconds: float, path: str = "/page/{n}", **cells: str) -> Iterator[bytes]:
    """Yields CloudFront's lines of ``number`` requests of a client, evenly over ``seconds``."""
    for n in range(number):
        stamp = f"{START_S + n * seconds / number:.3f}"
        yield cloudfront(FIELDS, timestamp=stamp, c_ip=client, cs_uri_stem=path.format(n=n), **cells)


def logged_by_waf(client: str, number: int, agent: str, **fields: object) -> Iterator[bytes]:
    headers = [{"name": "User-Agent", "value": agent}]
    for n in range(number):
        yield waf_text(timestamp=START_S * 1000 + n * 100, clientIp=client, uri=f"/page/{n}", headers=headers, **fields)


TRAFFIC: dict[str, tuple[list[bytes], set[tuple[str, str]]]] = {
    "Bursts and a pace in one rule": (
        [
            *requests("192.0.2.1", 40, 2),
            *requests("192.0.2.2", 240, 120),
            *requests("192.0.2.3", 2000, 10, "/img/{n}.png"),
            *requests("203.0.113.1", 80, 5),
            *requests("203.0.113.2", 360, 120),
        ],
        {("pages", "203.0.113.1"), ("pages", "203.0.113.2")},
    ),
    "A scraper that takes its time": (
        [
            *requests("192.0.2.1", 200, 3500, "/product/{n}", asn="64500"),
            *requests("192.0.2.2", 900, 3500, "/product/{n}", asn="64496"),
            *requests("203.0.113.1", 900, 3500, "//product/{n}", asn="64500"),
        ],
        {("catalogue", "203.0.113.1"), ("catalogue-pace", "203.0.113.1"), ("catalogue-pace", "192.0.2.2")},
    ),
    "A catalogue copied page by page": (
        [
            *requests("192.0.2.1", 90, 3500),
            *requests("192.0.2.2", 1800, 3500, "/page/price"),
            *requests("192.0.2.3", 900, 3500, "/img/{n}.png"),
            *(line for again in range(3) for line in requests("192.0.2.4", 90, 3500 + again)),
            *requests("203.0.113.1", 170, 3500),
        ],
        {("copy", "203.0.113.1")},
    ),
    "A slow scraper, by the day": (
        [
            *requests("192.0.2.1", 450, 80_000),
            *requests("192.0.2.2", 2000, 80_000, "/img/{n}.png"),
            *requests("192.0.2.3", 700, 172_000),
            *requests("203.0.113.1", 520, 80_000),
        ],
        {("pages-a-day", "203.0.113.1")},
    ),
    "A bill for egress": (
        [
            *requests("192.0.2.1", 900, 3000, sc_bytes="50000"),
            *requests("192.0.2.2", 19, 3000, "/video/{n}.mp4", sc_bytes="100000000"),
            *requests("203.0.113.1", 21, 3000, "/video/{n}.mp4", sc_bytes="100000000"),
        ],
        {("egress", "203.0.113.1")},
    ),
    "An API, path by path": (
        [
            *requests("192.0.2.1", 500, 60, "/v1/items/{n}", cs_host="api.example.com"),
            *requests("192.0.2.2", 900, 60, "/v1/health", cs_host="api.example.com"),
            *requests("192.0.2.3", 40, 60, "/v1/search?q={n}", cs_host="www.example.com"),
            *requests("203.0.113.1", 40, 60, "/v1/search?q={n}", cs_host="api.example.com"),
            *requests("203.0.113.2", 700, 60, "/v1/items/{n}", cs_host="api.example.com"),
        ],
        {("search", "203.0.113.1"), ("api", "203.0.113.2")},
    ),
    "Guessing of passwords": (
        [
            *requests("192.0.2.1", 10, 50, "/login", cs_method="POST"),
            *requests("192.0.2.2", 40, 50, "/login", cs_method="GET"),
            *requests("203.0.113.1", 11, 50, "//login", cs_method="POST"),
            *requests("203.0.113.2", 11, 50, "/%256Cogin", cs_method="POST"),
        ],
        {("login", "203.0.113.1"), ("login", "203.0.113.2")},
    ),
    "Scanners": (
        [
            *requests("192.0.2.1", 40, 5, "/photos/{n}.jpg", sc_status="404"),
            *requests("192.0.2.2", 100, 50),
            *requests("203.0.113.1", 25, 30, "/phpmyadmin{n}/index.php", sc_status="404"),
        ],
        {("scanner", "203.0.113.1")},
    ),
    "A path that no page links to": (
        [
            *requests("192.0.2.1", 50, 50, "/environment"),
            *requests("203.0.113.1", 1, 1, "/.env"),
            *requests("203.0.113.2", 1, 1, "/shop//.GIT/config"),
        ],
        {("trap", "203.0.113.1"), ("trap", "203.0.113.2")},
    ),
    "Bots that you know, and bots that say so": (
        [
            *logged_by_waf("192.0.2.1", 100, "Mozilla/5.0 Firefox/142.0"),
            *logged_by_waf("192.0.2.2", 100, "Examplebot/1.0", **VERIFIED),
            *logged_by_waf("203.0.113.1", 100, "Examplebot/1.0"),
        ],
        {("unverified-bots", "203.0.113.1")},
    ),
    "Requests that no browser makes": (
        [
            *requests("192.0.2.1", 40, 50, cs_header_names="host%0AAccept-Language%0A"),
            *requests("192.0.2.2", 40, 50, "/api/{n}", cs_header_names="host%0A"),
            *requests("203.0.113.1", 40, 50, cs_header_names="host%0A"),
        ],
        {("no-browser", "203.0.113.1")},
    ),
    "Visitors from elsewhere": (
        [
            *requests("192.0.2.1", 80, 50, c_country="DE"),
            *requests("192.0.2.2", 50, 50, c_country="US"),
            *requests("203.0.113.1", 80, 50, c_country="US"),
        ],
        {("from-elsewhere", "203.0.113.1")},
    ),
}


def test_every_problem_has_traffic() -> None:
    assert RECIPES.keys() == TRAFFIC.keys()


@pytest.mark.parametrize("problem", TRAFFIC)
def test_the_rules_for_a_problem_name_who_they_are_meant_for(problem: str, tmp_path: Path) -> None:
    lines, expected = TRAFFIC[problem]
    (tmp_path / "rules.toml").write_text(RECIPES[problem])
    command = ["replay", "-", "--rules", str(tmp_path / "rules.toml"), "--fields", ",".join(FIELDS), "--json"]
    answer = CliRunner().invoke(main, command, input=b"\n".join([*lines, b""]), catch_exceptions=False)
    replayed = json.loads(answer.stdout)
    assert replayed["requests"] == len(lines)
    named = {(offender["rule"], offender["client"].removesuffix("/32")) for offender in replayed["offenders"]}
    assert named == expected


@pytest.mark.parametrize("problem", TRAFFIC)
def test_the_rules_for_a_problem_only_count_and_pass_the_check(problem: str) -> None:
    assert {rule.action for rule in parse_rules(RECIPES[problem]).rules} == {Action.COUNT}
    fields = ",".join(FIELDS)
    checked = CliRunner().invoke(main, ["rules", "check", "-", "--fields", fields], input=RECIPES[problem])
    assert checked.exit_code == 0
    assert "counts nothing" not in checked.stdout
