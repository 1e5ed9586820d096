"""Stories in which it matters who is refused: a log, rules, and an edge that hears of each update late.

Each runs through ``sluice demo --traffic FILE --edge SECONDS``, so that anyone can try another log in the same way.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from sluice.cli import main
from tests.support.edge_stories import (
    BURST,
    Request,
    played,
    refused,
    regulars,
    steady,
    strangers_among_regulars,
)

pytestmark = pytest.mark.slow


def others(limit: int, seconds: float) -> Iterator[Request]:
    """Yields a flood of another client every ten seconds, so that there is always something to publish."""
    for number in range(int(seconds / 10)):
        start = 5 + number * 10
        yield from steady(f"10.0.{number // 250}.{number % 250}", 100, start, start + (limit + 1) / 100)


def test_a_guilty_network_in_a_log_of_two_days_is_refused_as_in_production(tmp_path: Path) -> None:
    """A client is known after a day; then a fleet in one network comes, and two who have done nothing before."""
    rules = '[networks]\n\n[[rule]]\nname = "burst"\nlimit = 5\nwindow = "10s"\nblock_for = "1h"\n'
    later = 32 * 3600
    known = (Request(hour * 3600, "198.51.100.7") for hour in range(33))
    fleet = (Request(later + k / 10, f"203.0.113.{30 * n}") for n in range(8) for k in range(8))
    quiet = (Request(later + 300 + 20 * k, client) for client in ("203.0.113.77", "203.0.114.77") for k in range(5))
    result = played(tmp_path, [*known, *fleet, *quiet], rules, edge_s=1)
    (network,) = [block for block in result["blocks"] if block["rule"] == "[networks]"]
    assert network["client"] == "203.0.113.0/24"
    assert network["reason"].startswith("8 of its clients are blocked: 203.0.113.0/32, ")
    refused = [result["clients"][f"{each}/32"]["refused"] for each in ("203.0.113.77", "203.0.114.77")]
    assert refused == [5, 0]
    run = CliRunner().invoke(main, ["replay", str(tmp_path / "log"), "--rules", str(tmp_path / "rules.toml"), "--json"])
    (foretold,) = json.loads(run.output)["networks"]
    assert (foretold["network"], foretold["members"], foretold["refused"]) == (network["client"], 8, 5)
    assert foretold["named"] == [f"203.0.113.{30 * n}/32" for n in range(8)]


ATTACKER = "203.0.113.66"


@pytest.mark.parametrize(
    ("block_for", "seconds", "most_served"),
    [
        pytest.param("10s", 400, 0.30, id="10 s"),
        pytest.param("60s", 1000, 0.08, id="60 s"),
        pytest.param("10m", 2000, 0.015, id="10 min"),
    ],
)
def test_an_attacker_at_three_times_the_limit_is_served_little_more_than_what_it_takes_to_notice_it(
    tmp_path: Path, block_for: str, seconds: int, most_served: float
) -> None:
    """Each time it is released it makes a limit's worth of requests, and a few until it is blocked again."""
    rules = f'[[rule]]\nname = "burst"\nlimit = 5\nwindow = "5s"\nblock_for = "{block_for}"\n'
    result = played(tmp_path, [*steady(ATTACKER, 3, 5, seconds), *others(5, seconds)], rules, edge_s=1)
    attacker = result["clients"][f"{ATTACKER}/32"]
    served = 1 - attacker["refused"] / attacker["requests"]
    assert served <= most_served


BURSTS_AND_LOGINS = """
[[rule]]
name = "burst"
limit = 50
window = "5s"
block_for = "1m"

[[rule]]
name = "login"
limit = 10
window = "60s"
block_for = "1d"
scope = { method = ["POST"], path_prefix = ["/login"] }
escalate = { factor = 4, max = "30d", memory = "30d" }
"""


def test_guessing_behind_bursts_is_punished_as_guessing(tmp_path: Path) -> None:
    """Every 130 seconds a burst, which alone is blocked for a minute, and 30 passwords within the next second."""
    requests: list[Request] = []
    for start in range(10, 1570, 130):
        requests += steady(ATTACKER, 100, start, start + 0.6)
        requests += steady(ATTACKER, 33, start + 0.65, start + 1.56, path="/login", method="POST", status=401)
    result = played(tmp_path, requests, BURSTS_AND_LOGINS, edge_s=1)
    assert {block["rule"]: block["until"] - block["blocked_at"] for block in result["blocks"]}["login"] == 86_400
    a_round = len(requests) // 12
    attacker = result["clients"][f"{ATTACKER}/32"]
    assert attacker["refused"] == attacker["requests"] - a_round, "only the first round is served"


def test_a_client_that_scans_once_and_then_behaves_is_refused_once(tmp_path: Path) -> None:
    """70 missing pages, and from then on two visits a second; AWS takes a minute to release it."""
    rules = """
        [[rule]]
        name = "scanner"
        limit = 60
        window = "60s"
        block_for = "5m"
        scope = { status = ["4xx"] }
    """
    scan = steady("198.51.100.7", 10, 5, 12, path="/missing", status=404)
    visits = steady("198.51.100.7", 2, 20, 1500, path="/api/poll")
    result = played(tmp_path, [*scan, *visits], rules, edge_s=60)
    assert [block["rule"] for block in result["blocks"]] == ["scanner"]
    client = result["clients"]["198.51.100.7/32"]
    # Five minutes, the minute until the next sweep, and as long as the release takes; two visits in each second.
    assert client["refused"] <= 2 * (300 + 60 + 60)


def test_strangers_are_all_refused_and_no_regular_is(tmp_path: Path) -> None:
    """Of the regulars, the rule may hit two; within a minute it hits a thousand strangers."""
    requests, strangers = strangers_among_regulars(1000, 40, Random(1))
    result = played(tmp_path, requests, BURST, edge_s=1)
    assert refused(result) == strangers
    assert result["breaker"] == []


def test_a_rule_that_would_hit_the_regulars_stops_itself(tmp_path: Path) -> None:
    """Its limit is too low by ten. All regulars exceed it within a quarter of an hour; it may hit two in a hundred."""
    random = Random(2)
    requests = [*regulars(200, 36, 10, random)]
    for hour in (0, 12, 24):
        requests += regulars(200, hour, 1, random)
    rules = '[[rule]]\nname = "burst"\nlimit = 1\nwindow = "10s"\nblock_for = "1h"\n'
    result = played(tmp_path, requests, rules, edge_s=1)
    assert result["breaker"] == ["burst"]
    assert len(refused(result)) <= 4


LADDER = """
[[rule]]
name = "pages"
limit = 20
window = "10s"
block_for = "20m"
respond = ["challenge", "block"]
"""


def test_a_challenged_browser_goes_on_a_bot_does_not_and_a_solver_that_goes_on_offending_is_blocked(
    tmp_path: Path,
) -> None:
    browser, bot, solver = "198.51.100.1", "198.51.100.2", "198.51.100.3"
    requests = [
        *steady(browser, 4, 5, 15),  # once over the limit, and then a page every two seconds
        *steady(browser, 0.5, 20, 900),
        *steady(bot, 4, 5, 15),
        *steady(bot, 1, 20, 900),
        *steady(solver, 4, 5, 900),
    ]
    solvers = ["--solver", browser, "--solver", solver]
    result = played(tmp_path, requests, LADDER, edge_s=1, options=solvers)
    clients = {client: result["clients"][f"{client}/32"] for client in (browser, bot, solver)}
    assert clients[browser]["refused"] == clients[browser]["asked"] <= 4, "a token is valid for five minutes"
    assert clients[bot]["refused"] == clients[bot]["asked"] >= 870, "it never gets past the challenge"
    rungs = [block["response"] for block in result["blocks"] if block["client"] == f"{solver}/32"]
    assert rungs == ["challenge", "block"]
    assert clients[solver]["refused"] - clients[solver]["asked"] > 1500, "blocked for the rest of the time"
    assert {block["client"] for block in result["blocks"] if block["response"] == "block"} == {f"{solver}/32"}
