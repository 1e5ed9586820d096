"""The comparison with rivals knows the truth about its log, and README shows the table that it prints."""

import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from bench.rivals import models, programs, traffic
from bench.rivals.__main__ import HEADINGS, NAMES, Program, Row, errors, main, markdown
from bench.rivals.programs import Failed, NotInstalled, Run, Verdicts
from bench.rivals.score import score, truth
from bench.rivals.traffic import LIMIT, OVER, WITHIN, Limit

README = (Path(__file__).parents[2] / "README.md").read_text()


def most_within(times: Sequence[int], window_s: int) -> int:
    """Returns the most requests within any window, by counting each of them."""
    return max(sum(start <= at < start + window_s for at in times) for start in set(times))


@pytest.fixture
def few_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "CLIENTS", 1)
    monkeypatch.setattr(traffic, "VISITORS", 20)


@pytest.mark.usefixtures("few_clients")
@pytest.mark.parametrize("seed", range(3))
def test_of_the_generated_clients_exactly_the_kinds_over_the_limit_exceed_it(seed: int) -> None:
    made = traffic.clients(Random(seed))
    assert {kind for kind, _ in made.values()} == {*OVER, *WITHIN}
    for kind, times in made.values():
        assert (most_within(times, LIMIT.window_s) > LIMIT.requests) == (kind in OVER), kind


def test_a_client_is_over_the_limit_from_the_request_with_which_a_window_holds_too_many() -> None:
    random = Random(5)
    for _ in range(200):
        times = sorted(random.randrange(40) for _ in range(random.randint(1, 12)))
        limit = Limit(random.randint(1, 5), random.randint(1, 15))
        over = [
            times[last]
            for last in range(len(times))
            if sum(times[last] - limit.window_s < at for at in times[: last + 1]) > limit.requests
        ]
        assert traffic.first_over(times, limit) == (over[0] if over else None)


@pytest.mark.usefixtures("few_clients")
def test_the_log_holds_the_requests_of_the_clients_in_order_of_time() -> None:
    times = {client: moments for client, (_, moments) in traffic.clients(Random(1)).items()}
    lines = list(traffic.lines(times))
    assert traffic.read(lines) == times
    assert lines == sorted(lines, key=lambda line: line.split("[")[1][:26])


def test_a_rival_is_scored_by_whom_it_misses_finds_without_reason_and_how_late() -> None:
    times = {"over": [0, 1, 2], "late": [0, 5, 9], "within": [0, 60, 120], "unseen": [7, 8, 9]}
    over = truth(times, Limit(2, 60))
    assert over == {"over": 2, "late": 9, "unseen": 9}
    found = score({"over": 3, "late": 39, "within": 60}, over, timed={"over", "late"})
    assert (found.missed, found.false, found.delay_s) == ({"unseen"}, {"within"}, 15.5)
    assert score({}, over, timed=times).delay_s is None


def test_the_modelled_services_have_the_gaps_that_their_documentation_describes() -> None:
    minute = traffic.START_S
    times = {
        "around a minute": [minute + 50] * 75 + [minute + 65] * 75,
        "within a minute": [minute + 1] * 101,
        "at the limit": [minute + 1] * 100,
    }
    assert models.security_automations(times, LIMIT) == {"within a minute": minute + models.OBJECT_S}
    # Found by the check at 10 and 70 seconds, refused 40 later.
    assert models.aws_waf(times, LIMIT) == {"within a minute": minute + 50, "around a minute": minute + 110}


def test_a_program_is_measured_by_itself_whatever_the_memory_of_the_one_that_starts_it(tmp_path: Path) -> None:
    ballast = bytearray(b"x" * 120_000_000)
    done = programs.run([sys.executable, "-I", "-S", "-c", "print(sum(range(10**6)))"], tmp_path)
    assert done.output == "499999500000\n"
    assert 0 < done.cpu_s < 10
    assert done.memory_mb < len(ballast) / 2**20 / 2


def test_a_program_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="ended with 3: no such column"):
        programs.run([sys.executable, "-I", "-S", "-c", "print('no such column'); raise SystemExit(3)"], tmp_path)


def test_a_log_of_ones_own_is_compared_by_the_rivals_that_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finds_all(log: Path, limit: int, window_s: int, folder: Path) -> Verdicts:
        return Verdicts(dict.fromkeys(traffic.read(log.read_text().splitlines()), traffic.START_S + 5), 0.25, 12)

    def is_missing(log: Path, limit: int, window_s: int, folder: Path) -> Verdicts:
        raise NotInstalled

    rivals = (Program("eager", "a test", finds_all, 2), Program("absent", "a test", is_missing, 1))
    monkeypatch.setattr("bench.rivals.__main__.PROGRAMS", rivals)
    monkeypatch.setattr("bench.rivals.__main__.time_to_block_s", lambda: 1.5)
    monkeypatch.setattr(programs, "sluice", finds_all)
    ticks = iter(range(1, 100))
    monkeypatch.setattr(programs, "split_lines", lambda log, folder: Run("", 100 - next(ticks), 9))
    log = tmp_path / "log"
    log.write_text("".join(traffic.lines({"192.0.2.1": [traffic.START_S] * 12, "192.0.2.2": [traffic.START_S] * 10})))
    run = CliRunner().invoke(main, ["--log", str(log), "--limit", "10", "--json"])
    assert run.exit_code == 0, run.output
    result = json.loads(run.stdout)
    assert result["log"] == "22 lines of 2 clients, 1 of which exceed 10 requests within 60 s"
    rows = {row["name"]: row for row in result["rows"]}
    assert rows["eager"]["missed"] == {}
    assert rows["eager"]["false"] == {"client of the log": 1}
    assert rows["eager"]["time_to_block_s"] == 7
    assert rows["eager"]["cpu_per_line"] is None  # too few lines
    assert rows["absent"]["missed"] is None


def test_a_log_in_another_format_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('{"no": "combined format"}\n')
    run = CliRunner().invoke(main, ["--log", str(log)])
    assert run.exit_code == 2
    assert "has no line in combined format" in run.output


def test_errors_are_listed_by_kind_of_client() -> None:
    rows = [Row("A", "run", {"flood": 1200}, {}), Row("B", "run", {}, {"visitor": 2}), Row("C", "run")]
    assert list(errors(rows)) == ["A misses: 1,200 x flood", "B finds without reason: 2 x visitor"]
    assert markdown(rows).splitlines()[-1] == "| C | not installed | - | - | - | - | - |"


def test_the_readme_shows_the_table_that_the_command_prints() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in README.splitlines() if line[:1] == "|"]
    assert tuple(rows[0]) == HEADINGS
    assert [name for name, *_ in rows[2:]] == list(NAMES)
    numbers = [r"[\d,]+", r"[\d,]+", r"-|[\d,.]+ s", r"-|[\d,.]+ x", r"-|[\d,.]+ MB"]
    for _, _, *cells in rows[2:]:
        for cell, form in zip(cells, numbers, strict=True):
            assert re.fullmatch(form, cell), cell
    assert Counter(name for name, *_ in rows[2:]).most_common(1)[0][1] == 1
    assert "make rivals" in README
