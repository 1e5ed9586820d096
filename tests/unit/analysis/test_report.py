"""``sluice report``: a page that needs nothing but itself, and plots that show what was counted."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from chalicelib.core.rules import parse_rules
from sluice.analysis.plots import over_time
from sluice.analysis.report import figures_of, page
from sluice.analysis.traffic import Traffic
from sluice.cli import main
from sluice.logs.file_decoder import Chunk
from sluice.replay.engine import Options, replay
from tests.support import replay_logs as logs
from tests.support.replay_logs import T0, Hit
from tests.unit.replay.test_verdicts import every, rules_of

RULES = (
    'name = "fine"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"',
    'name = "posts"\nlimit = 3\nwindow = "1m"\naction = "count"',
)
MADE = [*every(0.1, 0, 20), *every(2, 0, 100, "198.51.100.1"), *every(5, 0, 100, "2001:db8::1")]


def block() -> Chunk:
    return logs.block(map(logs.realtime, MADE))


class Reader(HTMLParser):
    """Elements, and everything that an element would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "data", "action")]
        self.loads += [u for _, v in attrs for u in re.findall(r"url\(([^)]*)\)", v or "")]


def written(rules: tuple[str, ...] = RULES) -> str:
    rule_set = rules_of(*rules)
    traffic = Traffic(rule_set, 100)
    (result,) = replay([block()], [rule_set], Options(), everyone=True, look=traffic.look)
    return page(result, figures_of(result, traffic), "a log & its rules", str)


def test_the_page_asks_nothing_of_anybody() -> None:
    reader = Reader()
    text = written()
    reader.feed(text)
    assert reader.tags.count("svg") == 3
    assert not {"script", "img", "link", "iframe"} & set(reader.tags)
    assert all(load.startswith("#") for load in reader.loads)
    assert "@import" not in text
    assert "Content-Security-Policy\" content=\"default-src 'none'" in text


def test_the_page_names_the_offenders_and_escapes_what_it_says() -> None:
    text = written()
    assert "a log &amp; its rules" in text
    assert "192.0.2.1/32" in text
    assert "198.51.100.1/32" in text
    assert "For rules that only count" in text


def test_a_page_without_offenders_says_so() -> None:
    text = written(('name = "r"\nlimit = 500\nwindow = "1s"',))
    assert "No client was over a limit." in text
    assert "Nobody would have been blocked." in text


def test_traffic_and_refusals_add_up() -> None:
    rules = rules_of(*RULES)
    traffic = Traffic(rules, 100)
    (result,) = replay([block()], [rules], Options(), everyone=True, look=traffic.look)
    assert sum(traffic.by_ten_s.values()) == len(MADE)
    assert {name: sum(peaks.values()) for name, peaks in traffic.peaks.items()} == {"fine": 3, "posts": 3}
    refused = {v.rule.name: v.refused_by_ten_s for v in result.verdicts if str(v.network) == "192.0.2.1/32"}
    assert refused["fine"] == {T0 // 10_000: 90, T0 // 10_000 + 1: 90}, "all but the first second and second 11"


def test_over_time_draws_every_request_once() -> None:
    figure = over_time({0: 50, 1: 10, 9: 30}, {1: 10})
    (axes,) = figure.axes
    passed, stopped = (stack.get_paths()[0] for stack in axes.collections)
    assert passed.vertices[:, 1].max() == 5, "50 requests in ten seconds"
    assert stopped.get_extents().y1 == 5, "on top of them: 10 refused in the next ten, none let through"


def test_a_few_requests_centuries_apart_are_drawn_at_once() -> None:
    (axes,) = over_time({1: 10, 9_999_999_999: 10}, {}).axes
    assert len(axes.collections) == 2


def test_the_command_writes_page_and_pictures(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(logs.waf(hit) + "\n" for hit in MADE))
    page_at, pictures = tmp_path / "report.html", tmp_path / "pictures"
    result = CliRunner().invoke(main, ["report", str(tmp_path / "log"), "-o", str(page_at), "--png", str(pictures)])
    assert result.exit_code == 0, result.output
    assert page_at.read_text().startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in pictures.iterdir()) == ["blocks.png", "over-time.png", "peaks.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures.iterdir())


@pytest.mark.parametrize("text", ["", "no log\n"])
def test_without_requests_there_is_no_page(text: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(text)
    result = CliRunner().invoke(main, ["report", str(tmp_path / "log"), "-o", str(tmp_path / "report.html")])
    assert result.exit_code == 1
    assert "no request in these files" in result.stderr
    assert not (tmp_path / "report.html").exists()


def test_one_request_is_enough_for_a_page() -> None:
    rules = parse_rules('[[rule]]\nname = "r"\nlimit = 0\nwindow = "1h"\n')
    traffic = Traffic(rules, 100)
    one = [logs.block([logs.realtime(Hit(T0, "192.0.2.1"))])]
    (result,) = replay(one, [rules], Options(), everyone=True, look=traffic.look)
    assert "192.0.2.1/32" in page(result, figures_of(result, traffic), "", str)
