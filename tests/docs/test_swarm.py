"""The swarm of ``bench/swarm.py`` is drawn as its constants say, and the page shows the rules that it tries."""

import json
import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from bench import swarm
from bench.swarm import HEADINGS, REGULAR, RULES, SWARM, Request, chunk, effects, fit, refused, rule_set
from sluice.replay.engine import Options, replay

PAGE = (Path(__file__).parents[2] / "docs" / "development" / "swarm.md").read_text()
PER_NETWORK = {name: RULES[name] for name in ("61 requests in 10m, per /24",)}


@pytest.mark.parametrize("name", swarm.SWARMS)
def test_a_swarm_has_the_rate_the_countries_and_the_requests_per_address_of_the_real_one(name: str) -> None:
    requests = list(swarm.SWARMS[name](10, Random(2)))
    assert len(requests) / 10 == pytest.approx(SWARM.per_minute, rel=0.15)
    countries = Counter(request.country for request in requests)
    for country in ("BR", "VN"):
        assert countries[country] / len(requests) == pytest.approx(SWARM.countries[country], abs=0.03)
    per_address = len(requests) / len({request.client for request in requests})
    # Ten minutes of a scattered swarm meet nearly every address once.
    assert per_address == pytest.approx({"scattered": 1, "clumped": swarm.REQUESTS_PER_ADDRESS}[name], abs=0.2)


def test_regular_clients_are_none_of_the_swarms_addresses() -> None:
    regular = {request.client for request in swarm.regulars(3, Random(2))}
    for make in swarm.SWARMS.values():
        assert not regular & {request.client for request in make(3, Random(2))}


def test_a_network_limit_refuses_a_clumped_swarm_and_never_a_scattered_one() -> None:
    scattered, clumped = effects(0.1, PER_NETWORK, seed=3)
    assert scattered.refused < 0.01
    assert clumped.refused > 0.5
    assert clumped.blocks < 100


def test_requests_are_refused_from_two_seconds_after_the_offence_by_client_or_network() -> None:
    requests = [
        Request(swarm.START_S + second, client, "BR", second, True)
        for second, client in ((0, "203.0.113.1"), (1, "203.0.113.2"), (2, "198.51.100.1"), (9, "203.0.113.3"))
    ]
    rules = rule_set('limit = 1\nwindow = "60s"\naggregate = { ipv4 = 24 }')
    (result,) = replay([chunk(requests)], [rules], Options(delay_s=2))
    assert [request.client for request in refused(requests, result)] == ["203.0.113.3"]


def test_what_the_calm_day_has_is_not_of_the_swarm(tmp_path: Path) -> None:
    def minute(day: str, **countries: int) -> dict[str, object]:
        counted = {country: {"count": number} for country, number in countries.items()}
        return {"timestamp": f"{day}T00:00:00", "requests": sum(countries.values()), "countries": counted}

    minutes = [
        minute("2025-09-27", BR=70, US=40),
        minute("2025-10-09", BR=90, VN=40, US=40),
        minute("2025-10-10", US=50, BR=10),
    ]
    file = tmp_path / "data.json"
    file.write_text(json.dumps({"time_series": minutes}))
    assert fit(file) == (
        (90, 30, {"BR": 0.778, "VN": 0.222}),
        (60, 0, {"US": 0.833, "BR": 0.167}),
    )


def test_the_page_shows_every_rule_and_the_constants() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:1] == "|"]
    assert tuple(rows[0]) == HEADINGS
    assert [row[0] for row in rows[2:]] == list(RULES)
    for _, *cells in rows[2:]:
        for cell, form in zip(cells, [r"[\d.]+%", r"[\d.]+%", r"[\d,]+"] * 2, strict=True):
            assert re.fullmatch(form, cell), cell
    text = " ".join(PAGE.split())
    assert f"{SWARM.per_minute:g} requests per minute" in text
    assert f"{REGULAR.per_minute:g} of regular clients" in text
