"""``sluice feeds``: published lists, read and compared."""

import json
import re
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from chalicelib.core.state.feeds import Feed
from sluice.cli import main
from tests.support.terminal import Terminal


def run(*args: str, input: str | None = None) -> Result:
    return CliRunner().invoke(main, ["feeds", *args], input=input)


@pytest.fixture
def crawlers(tmp_path: Path) -> Path:
    path = tmp_path / "bot.json"
    path.write_text('{"prefixes": [{"ipv4Prefix": "192.0.2.0/25"}, {"ipv4Prefix": "192.0.2.128/25"}]}')
    return path


def test_the_networks_of_a_list_are_printed_one_per_line(crawlers: Path) -> None:
    result = run("check", str(crawlers))
    assert result.stdout == "192.0.2.0/24\n"
    assert result.stderr == "note: 2 entries in 1 network\n"
    piped = run("check", "-", input=crawlers.read_text())
    assert (piped.stdout, piped.exception) == ("192.0.2.0/24\n", None), piped.output
    assert json.loads(run("check", str(crawlers), "--json").stdout) == {
        "networks": ["192.0.2.0/24"],
        "entries": 2,
        "skipped": [],
    }


def test_what_is_printed_can_be_the_list_before(crawlers: Path, tmp_path: Path) -> None:
    before = tmp_path / "before.txt"
    before.write_text(run("check", str(crawlers)).stdout)
    assert run("check", str(crawlers), "--before", str(before)).stdout == "192.0.2.0/24\n"


def test_an_implausible_list_prints_nothing_and_fails(crawlers: Path, tmp_path: Path) -> None:
    swollen = tmp_path / "new.txt"
    swollen.write_text("".join(f"198.51.{n}.0/24\n" for n in range(0, 60, 2)))
    result = run("check", str(swollen), "--before", str(crawlers))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "it grows from 1 network to 30; if that is right, leave out --before" in result.stderr


@pytest.mark.parametrize("name", ["missing.txt", "https://127.0.0.1/list"])
def test_a_list_that_cannot_be_read_is_an_error_that_names_it(name: str) -> None:
    result = run("check", name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {name}: ")


def test_skipped_entries_are_counted_and_the_first_ones_shown(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("".join(f"198.{n // 128}.{2 * n % 256}.0/24\n" for n in range(700)) + "10.0.0.1\n" * 7)
    notes = run("check", str(path)).stderr.splitlines()
    assert notes[0] == "note: 707 entries in 700 networks"
    assert notes[1:6] == ["note: skipped: 10.0.0.1/32 is not of the Internet: it is private, local or reserved"] * 5
    assert notes[6] == "note: skipped 2 more"


def test_feeds_are_listed_with_what_they_lead_to_and_what_went_wrong(terminal: Terminal) -> None:
    assert "0 feeds" in terminal.run("feeds", "list").stdout
    now = int(time.time())
    bot = Feed(name="bot", url="https://bots.example/", checked_at=now, changed_at=now - 3600, networks=1028)
    terminal.site.put_feed(replace(bot, problem="it contains no networks"))
    shown = terminal.run("feeds", "list").stdout
    assert shown.startswith("bot: it contains no networks\n")
    assert re.search(r"^bot +allow +1,028 +.* https://bots\.example/ *$", shown, re.MULTILINE)
    alarm = "feed bot: it contains no networks. Its last list, of 1,028 networks, stays in use."
    assert terminal.run("status").stdout.startswith(alarm)
    assert terminal.json("feeds", "list")["feeds"][0]["networks"] == 1028
