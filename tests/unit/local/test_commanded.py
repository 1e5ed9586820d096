"""``--notify exec:COMMAND``: a command runs for each announcement, and its failure stops nothing."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from chalicelib.core.announcements import Announcement, of_event
from chalicelib.core.state.events import Event
from sluice.cli import main
from sluice.commands.dev import EventLines
from sluice.commands.shared.output import output
from sluice.local.commanded import CommandedAnnouncements
from tests.support.deploy.events import line
from tests.support.state import CLIENT, NOW

APPEND = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + chr(10))"


def announcements(number: int) -> list[Announcement]:
    event = Event(outcome="blocked", network=CLIENT, rule="burst", until=NOW + 60)
    return [of_event(event, f"{NOW}000-ab/{each}", NOW * 1000, "sluice") for each in range(number)]


def test_a_command_reads_each_announcement_as_json_in_order(tmp_path: Path) -> None:
    file = tmp_path / "received"
    problems: list[str] = []
    commanded = CommandedAnnouncements([sys.executable, "-c", APPEND, str(file)], problems.append)
    commanded.send(announcements(3))
    commanded.close()
    received = [json.loads(line) for line in file.read_text().splitlines()]
    assert [each["id"] for each in received] == [each.id for each in announcements(3)]
    assert received[0]["title"] == f"sluice: {CLIENT} blocked"
    assert problems == []


def test_the_first_failure_is_reported_and_no_other() -> None:
    problems: list[str] = []
    commanded = CommandedAnnouncements(["false"], problems.append)
    commanded.send(announcements(3))
    commanded.close()
    assert problems == ["--notify exec:false: exit status 1"]


@pytest.mark.parametrize("command", ["dev", "demo"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jq .", "'jq .' is not of the form exec:COMMAND"),
        ("exec:", "'exec:' is not of the form exec:COMMAND"),
        ("exec:no-such-command-here", "there is no command 'no-such-command-here'"),
    ],
)
def test_a_command_that_cannot_run_is_refused_at_once(command: str, text: str, message: str) -> None:
    result = CliRunner().invoke(main, [command, "--notify", text])
    assert result.exit_code == 2
    assert message in result.output


def test_the_demo_runs_the_command_for_what_it_decides(tmp_path: Path) -> None:
    log, rules, received = (tmp_path / name for name in ("log", "rules.toml", "received"))
    log.write_bytes(b"".join(line("192.0.2.1", NOW + number / 10) for number in range(30)))
    rules.write_text('[[rule]]\nname = "burst"\nlimit = 10\nwindow = "5s"\nblock_for = "10m"\n')
    options = ["--traffic", str(log), "--rules", str(rules), "--speed", "max", "--json"]
    result = CliRunner().invoke(main, ["demo", *options, "--notify", f"exec:tee -a {received}"])
    assert result.exit_code == 0, result.output
    (block,) = json.loads(result.stdout)["blocks"]
    announced = json.loads(received.read_text())
    assert (announced["type"], announced["network"]) == ("Client Blocked", block["client"])


def test_dev_prints_each_event_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = EventLines(output(), printed=1)
    made = announcements(2)
    lines.report(made)
    lines.report(made)
    (printed,) = capsys.readouterr().out.splitlines()
    assert printed.endswith(f"{CLIENT} blocked  1 further offence against burst. Until 2025-10-09T08:54:20Z.")
