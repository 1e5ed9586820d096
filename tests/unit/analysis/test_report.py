"""The page is self-contained, names the offenders, and escapes its text."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from chalicelib.core.addresses import parse_network
from chalicelib.core.responses import Response
from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.blocks import Members
from sluice.analysis.report import figures_of, page
from sluice.analysis.summary import offenders, refused_once
from sluice.analysis.traffic import TrafficProfile, profiled
from sluice.replay.engine import Options, Result, spooled
from sluice.replay.network_model import NetworkBlocks, NetworkPeriod
from tests.support import replay_logs as logs
from tests.support.replay_logs import S0, T0, Hit, every, rules_of

RULES = (
    'name = "fine"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"',
    'name = "posts"\nlimit = 3\nwindow = "1m"\naction = "count"',
)
MADE = [*every(0.1, 0, 20), *every(2, 0, 100, "198.51.100.1"), *every(5, 0, 100, "2001:db8::1")]


def replayed(rules: RuleSet, made: list[Hit]) -> tuple[Result, TrafficProfile]:
    with spooled([logs.chunk(map(logs.realtime, made))], [rules], Options(), everyone=True) as log:
        return profiled(log, rules)


class PageReader(HTMLParser):
    """Collects elements, and everything that they would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "data", "action")]
        self.loads += [u for _, v in attrs for u in re.findall(r"url\(([^)]*)\)", v or "")]


def written(rules: tuple[str, ...] = RULES) -> str:
    result, profile = replayed(rules_of(*rules), MADE)
    return page(result, figures_of(result, profile), "a log & its rules", str)


@pytest.mark.slow
def test_the_page_loads_nothing() -> None:
    reader = PageReader()
    text = written()
    reader.feed(text)
    assert reader.tags.count("svg") == 3
    assert not {"script", "img", "link", "iframe"} & set(reader.tags)
    assert all(load.startswith("#") for load in reader.loads)
    assert "@import" not in text
    assert "Content-Security-Policy\" content=\"default-src 'none'" in text


@pytest.mark.slow
def test_the_page_names_the_offenders_and_escapes_its_text() -> None:
    text = written()
    assert "a log &amp; its rules" in text
    assert "192.0.2.1/32" in text
    assert "198.51.100.1/32" in text
    assert "Rules that only count" in text


@pytest.mark.slow
def test_a_page_without_offenders_says_so() -> None:
    text = written(('name = "r"\nlimit = 500\nwindow = "1s"',))
    assert "No client exceeded a limit." in text
    assert "No client would have been blocked." in text


def test_a_request_that_several_rules_refuse_counts_once() -> None:
    rule = 'name = "{}"\nlimit = {}\nwindow = "1s"\naction = "count"'
    counting = [rule.format(name, limit) for name, limit in (("a", 3), ("b", 4), ("c", 5))]
    wide = 'name = "wide"\nlimit = 5\nwindow = "1s"\naggregate = { ipv4 = 24 }'
    result, _ = replayed(rules_of(*counting, wide), [*every(0.1, 0, 20), *every(0.1, 0, 20, "192.0.2.2")])
    everyone = offenders(result)
    by_network = {str(each.network): each.refused for each in everyone if each.rule.name in ("a", "wide")}
    assert sum(each.refused for each in everyone) > 2 * result.stats.requests
    assert refused_once(everyone) == max(
        by_network["192.0.2.1/32"] + by_network["192.0.2.2/32"], by_network["192.0.2.0/24"]
    )
    assert refused_once(everyone) < result.stats.requests


def test_the_blocks_of_one_client_by_rules_that_block_do_not_overlap() -> None:
    rules = rules_of(*(f'name = "{name}"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"' for name in "ab"))
    result, _ = replayed(rules, every(0.1, 0, 40))
    [one] = [each for each in offenders(result) if each.rule.name == "a"]
    other = replace(one, rule=replace(one.rule, name="b"), refused=7)
    assert refused_once([one, other]) == one.refused + 7


@pytest.mark.slow
def test_one_request_is_enough_for_a_page() -> None:
    rules = parse_rules('[[rule]]\nname = "r"\nlimit = 0\nwindow = "1h"\n')
    result, profile = replayed(rules, [Hit(T0, "192.0.2.1")])
    assert "192.0.2.1/32" in page(result, figures_of(result, profile), "", str)


def test_the_page_names_guilty_networks_if_there_are_any() -> None:
    result, profile = replayed(rules_of(RULES[0]), MADE[:20])
    figures = figures_of(result, profile)
    assert "Guilty networks" not in page(result, figures, "", str)
    members = Members(number=9, named=("192.0.2.1/32", "192.0.2.2/32"), innocents=("192.0.2.9/32",))
    periods = (NetworkPeriod(S0, S0 + 60, Response.BLOCK),)
    network = NetworkBlocks(parse_network("192.0.2.0/24"), members, periods, 4)
    text = page(replace(result, networks=[network]), figures, "", str)
    assert "The first 1 of 1 networks" in text
    assert "<td>9: 192.0.2.1/32, 192.0.2.2/32 and 7 more</td><td>192.0.2.9/32</td>" in text
