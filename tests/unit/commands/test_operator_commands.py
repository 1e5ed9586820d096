"""Every command does what its help says, prints the command that undoes it, and explains a refusal."""

import json
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socket import create_server
from threading import Thread

import click
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from chalicelib.core.state.operators import EarlierRule, Placed
from chalicelib.core.state.trends import QUARTER_S, Traffic, TrendMark
from sluice.cli import COMMANDS, main
from tests.support.site import SITE_RULES
from tests.support.terminal import Terminal


@pytest.mark.slow
def test_a_block_made_by_hand_reaches_the_ip_set_and_its_undo_lifts_it(terminal: Terminal) -> None:
    blocked = terminal.run("block", "203.0.113.9", "--for", "1h", "--comment", "scraper, 'ticket' 4711")
    terminal.site.eventually(lambda: "203.0.113.9/32" in terminal.site.published())
    lifted = terminal.undo(blocked)
    terminal.site.eventually(lambda: "203.0.113.9/32" not in terminal.site.published())
    terminal.undo(lifted)
    (block,) = terminal.json("blocks")["blocks"]
    assert block["comment"] == "scraper, 'ticket' 4711"


def test_the_status_warns_of_a_rule_before_sluice_that_lets_blocked_clients_pass(terminal: Terminal) -> None:
    assert "web ACL" not in terminal.run("status").stdout
    office = EarlierRule(name="office", priority=0, effect="allows requests", may_allow=True)
    terminal.site.put_places(Placed(web_acl="shop", place=3, rules=4, before=(office,)), age_s=7300)
    shown = " ".join(terminal.run("status").stdout.split())
    warning = (
        "In web ACL shop, rules before Sluice's may let requests of blocked clients pass: office (allows requests)."
    )
    assert warning in shown
    assert "web ACL shop rule 3 of 4, 2h 1m ago" in shown
    assert terminal.json("status")["web_acls"]["web_acls"][0]["place"] == 3
    terminal.site.put_places(Placed(web_acl="shop", place=0, rules=4))
    assert "Web ACL shop has none of Sluice's rules" in terminal.run("status").stdout


@pytest.mark.slow
def test_a_log_that_cannot_be_read_is_told_from_no_traffic(terminal: Terminal) -> None:
    terminal.site.put_malformed(*[b"1790000000.1\t192.0.2.1"] * 3000)
    problem = "3,000 lines have 2 fields where CLOUDFRONT_FIELDS names 9"
    shown = terminal.status_that_begins_with(f"NOT COUNTED: {problem}. Set CLOUDFRONT_FIELDS to the fields")
    assert (
        f"{problem} (read as cloudfront), such as a record: 1790000000.1\\t192.0.2.1\n  Set CLOUDFRONT_FIELDS" in shown
    )


@pytest.mark.slow
def test_an_object_in_which_nothing_can_be_read_is_named(terminal: Terminal) -> None:
    terminal.site.put_object("\x1b[2Jone.gz", b"\x1f\x8b\x08 no gzip")
    shown = terminal.status_that_begins_with(
        "NOT COUNTED: 1 record has damaged gzip. Check whether something cuts records"
    )
    assert "1 record has damaged gzip, such as logs/\\x1b[2Jone.gz: \\x1f\\x8b\\x08 no gzip" in shown


def test_an_allowlist_entry_lifts_overlapping_blocks_and_its_undo_removes_it(terminal: Terminal) -> None:
    terminal.site.put_blocks("203.0.113.9/32")
    allowed = terminal.run("allow", "203.0.113.0/24", "--comment", "partner", "--for", "2h")
    assert "lifted 1 block" in allowed.stdout
    assert terminal.blocked() == []
    removed = terminal.undo(allowed)
    before = terminal.json("allowlist")["entries"]
    terminal.undo(removed)
    (entry,) = [entry for entry in terminal.json("allowlist")["entries"] if entry not in before]
    assert (entry["network"], entry["comment"]) == ("203.0.113.0/24", "partner")
    assert entry["expires_at"] is not None


def test_a_list_is_allowed_for_a_rule_and_removed_again_by_the_undo(terminal: Terminal) -> None:
    before = terminal.json("allowlist")["entries"]
    networks = "192.0.2.1\n192.0.2.2 # second\n"
    allowed = terminal.run("allow", "-", "--rule", "burst", "--comment", "uptime checks", "--yes", stdin=networks)
    assert "192.0.2.1/32, 192.0.2.2/32 are on the allowlist for burst alone; comment: uptime checks." in allowed.stdout
    assert "burst" in terminal.run("allowlist").stdout
    removed = terminal.undo(allowed)
    assert terminal.json("allowlist")["entries"] == before
    terminal.undo(removed)
    entries = [entry for entry in terminal.json("allowlist")["entries"] if entry not in before]
    assert {(entry["comment"], *entry["rules"]) for entry in entries} == {("uptime checks", "burst")}
    terminal.run("disallow", "-", "--yes", stdin=networks)
    assert terminal.json("allowlist")["entries"] == before
    mixed = "192.0.2.1 burst login\n192.0.2.2 # from all\n"
    terminal.run("allow", "-", "--yes", stdin=mixed)
    entries = [entry for entry in terminal.json("allowlist")["entries"] if entry not in before]
    assert [entry["rules"] for entry in entries] == [["burst", "login"], []]
    terminal.run("disallow", "-", "--yes", stdin=mixed)
    assert terminal.json("allowlist")["entries"] == before


def test_more_networks_than_fit_one_call_are_blocked_and_lifted_in_several(terminal: Terminal) -> None:
    networks = [f"192.0.2.{last}" for last in range(100)]
    terminal.run("block", "-", "--for", "1h", "--yes", stdin="\n".join([*networks, "# a comment", ""]))
    assert len(terminal.blocked()) == 100
    terminal.run("unblock", "--rule", "manual", "--yes")
    assert terminal.blocked() == []


def test_the_history_shows_what_is_over_by_time_rule_and_network(terminal: Terminal) -> None:
    terminal.run("block", "203.0.113.9", "--for", "1h", "--comment", "scraper")
    terminal.run("unblock", "203.0.113.9")
    end, start = terminal.json("history", "--since", "10m", "--rule", "manual", "--network", "203.0.113.0/24")["events"]
    assert (start["outcome"], end["outcome"]) == ("blocked", "ended")
    shown = terminal.run("history").stdout
    assert "blocked" in shown
    assert ": scraper" in shown
    assert "lifted by" in shown
    assert "--limit shows more" in terminal.run("history", "--limit", "1").stdout
    assert "Nothing that matches has been recorded" in terminal.run("history", "--rule", "login").stdout
    assert terminal.json("history", "--until", "2020-01-31T04:00")["events"] == []
    wrong = terminal.run("history", "--since", "yesterday", exit_code=2)
    assert "'yesterday' is not a time such as 2026-01-31T12:00" in wrong.stderr
    assert "an age such as 3h" in wrong.stderr


def test_trends_show_the_numbers_of_a_time_beside_those_of_a_day_and_a_week_earlier(terminal: Terminal) -> None:
    assert "Nothing is recorded between" in terminal.run("trends").stdout
    over = int(time.time()) // QUARTER_S * QUARTER_S
    quiet = Traffic(
        at=over - 2 * QUARTER_S, measured_s=QUARTER_S, requests=5_000, offences=12, blocks=3, most_blocked=4
    )
    busy = replace(quiet, at=over - QUARTER_S, requests=20_000, refused=10_000, more=True)
    terminal.site.put_trend(busy, quiet, replace(quiet, at=over - QUARTER_S - 86400))
    shown = [line.split() for line in terminal.run("trends", "--span", "1h").stdout.splitlines()]
    assert shown[1][-6:] == ["25,000", "10,000", "24+", "6+", "4", "30m"]
    assert shown[2][:4] == ["a", "day", "earlier", "5,000"]
    assert shown[3] == ["a", "week", "earlier", *["-"] * 5, "nothing"]
    assert shown[-1][-1] == "█" * 12 + "░" * 12
    assert shown[-2][-1] == "█" * 6
    assert terminal.json("trends", "--span", "1h")["total"]["requests"] == 25_000
    longer = terminal.run("trends", "--span", "31d").stdout
    assert "a day earlier" not in longer
    assert "a week earlier, which overlaps" in longer
    refused = terminal.run("trends", "--span", "40d", exit_code=1)
    assert "from 15m to 31d" in refused.stderr


def test_trends_that_are_not_added_up_are_told_by_the_status_and_what_came_meanwhile_is_an_average(
    terminal: Terminal,
) -> None:
    now = int(time.time())
    over = now // QUARTER_S * QUARTER_S
    terminal.site.put_control(TrendMark(at=now - 1500))
    assert "added up" not in terminal.run("status").stdout
    terminal.site.put_control(TrendMark(at=now - 1900))
    assert "Traffic was last added up for trends at" in terminal.run("status").stdout
    terminal.site.put_trend(Traffic(at=over - QUARTER_S, measured_s=2 * QUARTER_S, requests=1000, offences=2))
    shown = [line.split() for line in terminal.run("trends", "--span", "1h").stdout.splitlines()]
    assert [line[-6:-2] for line in shown[-2:]] == [["~500", "~0", "~1", "~0"]] * 2


def test_several_blocks_are_not_lifted_without_confirmation(terminal: Terminal) -> None:
    terminal.site.put_blocks("192.0.2.1/32", "192.0.2.2/32")
    refused = terminal.run("unblock", "--rule", "burst", exit_code=2)
    assert "give --yes" in refused.stderr
    assert terminal.blocked() == ["192.0.2.1/32", "192.0.2.2/32"]


def test_a_filter_without_a_match_lifts_nothing(terminal: Terminal) -> None:
    terminal.site.put_blocks("192.0.2.1/32")
    assert "No block matches." in terminal.run("unblock", "--rule", "login", "--yes").stdout
    assert terminal.blocked() == ["192.0.2.1/32"]


def test_a_refusal_names_field_value_and_accepted_form(terminal: Terminal) -> None:
    refused = terminal.run("block", "10.0.0.1/8", "--for", "1h", exit_code=1)
    assert refused.stdout == ""
    for text in ("network", "10.0.0.1/8", "10.0.0.0/8"):
        assert text in refused.stderr
    document = json.loads(terminal.run("block", "10.0.0.1/8", "--for", "1h", "--json", exit_code=1).stderr)
    assert document["errors"][0]["field"] == "network"


def test_a_network_that_overlaps_the_allowlist_is_blocked_only_with_force(terminal: Terminal) -> None:
    refused = terminal.run("block", "198.51.100.7", "--for", "1h", exit_code=1)
    assert "--force" in refused.stderr
    forced = terminal.run("block", "198.51.100.7", "--for", "1h", "--force")
    assert "withheld" in forced.stdout


def test_rules_are_planned_applied_and_rolled_back(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(SITE_RULES.replace("limit = 20", "limit = 30"))
    planned = terminal.run("rules", "plan", str(file))
    assert "limit: 20 becomes 30" in planned.stdout
    assert terminal.json("rules", "show")["version"] == 1
    assert "limit: 20 becomes 30" in terminal.run("rules", "apply", str(file), exit_code=2).stdout
    applied = terminal.run("rules", "apply", str(file), "--yes", "--comment", "sale")
    assert terminal.json("rules", "show")["text"] == file.read_text()
    terminal.undo(applied)
    assert terminal.run("rules", "show").stdout == SITE_RULES
    history = terminal.run("rules", "history").stdout
    assert "sale" in history
    assert "in force" in history


def test_one_rule_is_changed_and_changed_back_by_the_printed_command(terminal: Terminal) -> None:
    assert (
        "action: block becomes count" in terminal.run("rules", "set", "burst", "--action", "count", exit_code=2).stdout
    )
    done = terminal.run("rules", "set", "burst", "--action", "count", "--limit", "25", "--yes")
    changed = terminal.run("rules", "show").stdout
    assert changed != SITE_RULES
    assert "limit = 25" in changed
    assert terminal.json("rules", "show")["rules"][0]["action"] == "count"
    terminal.undo(done)
    assert terminal.run("rules", "show").stdout == SITE_RULES


def test_a_change_of_an_unknown_rule_or_to_nothing_is_refused(terminal: Terminal) -> None:
    assert "existing rules: burst" in terminal.run("rules", "set", "brust", "--limit", "3", exit_code=1).stderr
    assert "--action, --limit" in terminal.run("rules", "set", "burst", exit_code=2).stderr
    assert "Use --force" in terminal.run("rules", "set", "burst", "--limit", "0", "--yes", exit_code=1).stderr


def test_a_rule_set_is_not_applied_over_a_concurrent_change(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(SITE_RULES.replace("limit = 20", "limit = 30"))
    refused = terminal.run("rules", "apply", str(file), "--if-version", "7", "--yes", exit_code=1)
    assert "is active, not 7" in refused.stderr


def test_invalid_rules_are_refused_with_rule_and_key(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(SITE_RULES.replace("window = ", "windw = ", 1))
    refused = terminal.run("rules", "plan", str(file), exit_code=1)
    assert "windw" in refused.stderr


def test_a_pause_is_shown_first_and_undone_by_the_printed_command(terminal: Terminal) -> None:
    paused = terminal.run("pause", "--release", "--yes")
    assert terminal.run("status").stdout.startswith("PAUSED by alice")
    terminal.undo(paused)
    assert "PAUSED" not in terminal.run("status").stdout


def test_a_pause_has_an_end_and_a_reason_which_status_shows(terminal: Terminal) -> None:
    paused = terminal.run("pause", "--for", "30m", "--comment", "load test, ticket 4712").stdout
    assert "rules block no new client; comment: load test, ticket 4712" in paused
    first = terminal.run("status").stdout.partition("Resume with")[0]
    assert " until " in first
    assert "(load test, ticket 4712)" in " ".join(first.split())
    assert terminal.json("status")["pause"]["until"] == pytest.approx(time.time() + 1800, abs=60)
    later = terminal.run("pause", "--for", "2h", "--comment", "longer")
    terminal.undo(later)
    assert terminal.json("status")["pause"]["comment"] == "load test, ticket 4712"
    assert "Give --for or --until" in terminal.run("pause", "--for", "1h", "--until", "2030-01-01", exit_code=2).stderr
    refused = terminal.run("pause", "--until", "2020-01-01", exit_code=2).stderr
    assert "--until" in refused
    assert "in the past" in refused


def test_the_audit_is_searched_by_operator_text_and_time(terminal: Terminal) -> None:
    terminal.run("block", "203.0.113.9", "--for", "1h", "--comment", "ticket 4712")
    terminal.run("pause")
    assert "ticket 4712" in " ".join(terminal.run("audit", "--text", "4712", "--since", "1h").stdout.split())
    assert len(terminal.json("audit", "--by", "alice")["records"]) == 2
    assert terminal.json("audit", "--by", "bob")["records"] == []
    assert terminal.json("audit", "--until", "1h")["records"] == []


def test_a_list_with_a_bad_line_changes_nothing_and_names_the_line(terminal: Terminal) -> None:
    lines = "\n".join([*(f"203.0.113.{host}" for host in range(50)), "# office", "203.0.113.7/24  # host bits", "x"])
    refused = terminal.run("block", "-", "--for", "1h", "--yes", stdin=lines, exit_code=2).stderr
    assert "line 52: '203.0.113.7/24' has host bits set; the network is 203.0.113.0/24" in refused
    assert "line 53: 'x'" in refused
    assert terminal.json("blocks")["total"] == 0


def test_what_is_wrong_is_said_once(terminal: Terminal) -> None:
    refused = terminal.run("allow", "192.0.2.7/24", exit_code=1).stderr
    assert refused.count("host bits") == 1
    assert "body" not in refused


def test_rules_that_all_only_count_are_not_called_enforcing(terminal: Terminal) -> None:
    assert "of them blocking" in terminal.run("status").stdout
    for rule in terminal.json("rules", "show")["rules"]:
        terminal.run("rules", "set", rule["name"], "--action", "count", "--yes")
    shown = terminal.run("status").stdout
    assert "none of them blocking" in shown
    assert "no: every rule only counts" in shown


def test_the_breaker_is_reset_for_the_given_time(terminal: Terminal) -> None:
    assert "stays closed for 30m" in terminal.run("breaker", "reset", "--quiet-for", "30m", "--yes").stdout


def test_a_stopped_rule_is_shown_with_those_it_would_have_blocked_and_is_reset(terminal: Terminal) -> None:
    terminal.site.stop_rule("burst")
    shown = " ".join(terminal.run("status").stdout.split())
    assert "burst would have blocked 812 of 2,000 known clients within ten minutes, such as 203.0.113.9/32" in shown
    assert "sluice breaker reset burst" in shown
    assert "yes, except burst" in shown
    assert terminal.json("status")["breaker"]["stopped"][0]["rule"] == "burst"
    reset = terminal.run("breaker", "reset", "burst", "--yes").stdout
    assert "The breaker of rule burst is closed" in reset
    assert "RULE STOPPED" not in terminal.run("status").stdout
    assert "no rule" in terminal.run("breaker", "reset", "brust", "--yes", exit_code=1).output


@pytest.mark.slow
def test_a_client_is_explained_and_listed_among_the_busiest(terminal: Terminal) -> None:
    terminal.site.attack("203.0.113.9")
    terminal.site.eventually(lambda: terminal.json("blocks")["total"] == 1)
    report = terminal.run("client", "203.0.113.9").stdout
    assert "203.0.113.9/32 is blocked for another" in report
    assert "limit 20" in report
    assert "Its requests in the last minutes:" in report
    assert "www.example.com" in report.partition("Its requests")[2]
    busiest = terminal.run("top", "--rule", "burst").stdout
    assert "203.0.113.9/32" in busiest
    assert "GET www.example.com/ 200" in busiest
    assert "203.0.113.9/32" in terminal.run("blocks", "--text", "203.0.113.9").stdout


def test_the_audit_names_the_command_that_undoes_each_change(terminal: Terminal) -> None:
    terminal.run("block", "203.0.113.9", "--for", "1h")
    changes = terminal.run("audit").stdout
    assert "alice" in changes
    assert "sluice unblock 203.0.113.9/32" in changes


def test_a_comment_cannot_move_the_terminals_cursor_or_style_it(terminal: Terminal) -> None:
    terminal.site.put_blocks("192.0.2.1/32", rule="manual", comment="\x1b[2J[bold red]hello[/]")
    shown = terminal.run("blocks").stdout
    assert "\x1b" not in shown
    assert "[bold red]hello[/]" in shown


def test_a_viewer_may_read_but_not_change(terminal: Terminal) -> None:
    terminal.environment["SLUICE_TOKEN"] = terminal.site.viewer
    terminal.run("status")
    assert "needs the role 'operator'" in terminal.run("pause", exit_code=1).stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "exit_code", "message"),
    [
        pytest.param({"SLUICE_TOKEN": None}, 2, "SLUICE_TOKEN is not set", id="no token"),
        pytest.param({"SLUICE_TOKEN": "sluice_wrong"}, 1, "unknown, revoked or expired", id="a wrong token"),
        pytest.param(
            {"SLUICE_TOKEN": "two\nlines"}, 2, "characters that are not allowed in a token", id="a malformed token"
        ),
        pytest.param({"SLUICE_URL": None}, 2, "Set SLUICE_URL", id="no address"),
        pytest.param({"SLUICE_URL": "http://192.0.2.1/"}, 2, "expected https://", id="an unencrypted token"),
        pytest.param({"SLUICE_URL": "http://127.0.0.1:9/"}, 1, "does not answer", id="no server"),
    ],
)
def test_a_bad_environment_is_explained(
    terminal: Terminal, changes: dict[str, str | None], exit_code: int, message: str
) -> None:
    terminal.environment.update(changes)
    refused = terminal.run("status", exit_code=exit_code)
    assert message in refused.stderr
    assert "Traceback" not in refused.output


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_repeats_the_first_line_of_each_help(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert str(command.help).partition("\n\n")[0].replace("\n", " ") == COMMANDS[name][1]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_what_a_command_does_with_an_example(name: str) -> None:
    text = CliRunner().invoke(main, [name, "--help"]).stdout
    assert text.startswith(f"Usage: main {name}")
    group = "Commands:" in text
    assert group or f"sluice {name}" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_printed(shell: str) -> None:
    assert "_SLUICE_COMPLETE" in CliRunner().invoke(main, ["completion", shell]).stdout


def test_records_that_cannot_be_read_are_listed_shown_removed_and_restored(terminal: Terminal) -> None:
    body = b'{"network":"192.0.2.77/24","comment":"it\'s the office"}'
    terminal.site.put_unreadable("allow", "192.0.2.77/24", body)
    status = terminal.run("status")
    assert "1 record that cannot be read: skipped (allow 1), for example allow 192.0.2.77/24" in " ".join(
        status.stdout.split()
    )
    listed = terminal.run("records", "list")
    assert "has host bits set" in listed.stdout
    shown = terminal.run("records", "show", "allow", "192.0.2.77/24")
    assert body.decode() in shown.stdout
    removed = terminal.run("records", "remove", "allow", "192.0.2.77/24", "--yes")
    assert "0 records" in terminal.run("records", "list").stdout
    restored = terminal.undo(removed)
    assert terminal.json("records", "show", "allow", "192.0.2.77/24")["body"] == body.decode()
    terminal.run("records", "remove", "allow", "192.0.2.77/24", "--yes")
    assert "Undo with:  sluice records remove" in restored.stdout


def test_a_damaged_record_writes_nothing_to_the_terminal_but_its_text(terminal: Terminal) -> None:
    terminal.site.put_unreadable("allow", "\x1b[2J", b"\x1b]0;office\x07")
    for words in (["status"], ["records", "list"], ["records", "show", "allow", "\x1b[2J"]):
        assert "\x1b" not in terminal.run(*words).stdout


def test_a_client_is_shown_with_its_owner_and_name(terminal: Terminal, tmp_path: Path) -> None:
    table = tmp_path / "owners.tsv"
    table.write_text("127.0.0.0\t127.255.255.255\t64500\tDE\tEXAMPLE\n")
    shown = terminal.run("client", "127.0.0.1", "--owners", str(table), "--resolve").stdout
    assert "Name of 127.0.0.1: " in shown
    assert "Owner of 127.0.0.1: AS64500 EXAMPLE (DE), 127.0.0.0 to 127.255.255.255" in shown
    assert (
        f"Owner of 203.0.113.9: not in {table}" in terminal.run("client", "203.0.113.9", "--owners", str(table)).stdout
    )
    assert "Owner of" not in terminal.run("client", "203.0.113.9").stdout
    table.write_text("192.0.2.0/24,64500\n")
    assert "line 1: " in terminal.run("client", "127.0.0.1", "--owners", str(table), exit_code=1).stderr


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["unblock", "203."], ["203.0.113.9/32"]),
        (["unblock", ""], ["198.51.100.7/32", "203.0.113.9/32"]),
        (["client", "198"], ["198.51.100.7/32"]),
        (["disallow", "192"], ["192.0.2.0/24"]),
        (["blocks", "--rule", "b"], ["burst"]),
        (["history", "--rule", "zzz"], []),
    ],
)
def test_the_shell_completes_what_the_stage_has(terminal: Terminal, words: list[str], offered: list[str]) -> None:
    terminal.site.put_blocks("203.0.113.9/32", "198.51.100.7/32")
    terminal.run("allow", "192.0.2.0/24")
    typed = " ".join(["sluice", *words])
    asked = {"_SLUICE_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(len(words))}
    result = CliRunner().invoke(main, [], prog_name="sluice", env={**terminal.environment, **asked})
    assert sorted(line.removeprefix("plain,") for line in result.stdout.splitlines() if line) == offered


def test_a_block_is_completed_beside_many_that_contain_what_was_typed(terminal: Terminal) -> None:
    terminal.site.put_blocks("19.1.2.3/32", blocked_at=int(time.time()) - 3600)
    terminal.site.put_blocks(*[f"203.0.113.{n}/32" for n in range(60)], comment="ticket 19.1")
    assert _completed("sluice unblock 19.1", **terminal.environment) == "plain,19.1.2.3/32"


def _completed(typed: str, **environment: str | None) -> str:
    asked = {"_SLUICE_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    result = CliRunner().invoke(main, [], prog_name="sluice", env={**environment, **asked})
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.output.strip()


def test_a_block_asks_an_older_api_for_nothing_that_it_does_not_know() -> None:
    class Older(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer = b'{"now": 1, "changed": true, "detail": "blocked", "undo": null}'
            self.send_response(201)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Logs nothing."""

    asked: list[dict[str, object]] = []
    with HTTPServer(("127.0.0.1", 0), Older) as server:
        Thread(target=server.handle_request, daemon=True).start()
        environment = {"SLUICE_URL": f"http://127.0.0.1:{server.server_port}", "SLUICE_TOKEN": "x"}
        words = ["block", "203.0.113.9", "--for", "1h", "--yes"]
        result = CliRunner().invoke(main, words, env=environment)
    assert result.exit_code == 0, result.output
    (body,) = asked
    assert body.keys() == {"network", "block_for", "comment", "force"}


@pytest.mark.slow
def test_a_stage_that_does_not_answer_soon_completes_nothing() -> None:
    with create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begun = time.monotonic()
        assert _completed("sluice unblock ", SLUICE_URL=url, SLUICE_TOKEN="x") == ""
        assert time.monotonic() - begun < 10


def test_a_stage_with_iam_authorization_completes_nothing_and_asks_aws_for_nothing() -> None:
    iam = {"SLUICE_URL": "http://127.0.0.1:9", "SLUICE_AUTH": "iam", "AWS_PROFILE": "nope"}
    assert _completed("sluice unblock ", **iam) == ""


def test_a_stage_that_cannot_be_reached_completes_nothing_and_says_nothing(tmp_path: Path) -> None:
    def completed(typed: str) -> str:
        return _completed(typed, SLUICE_URL="http://127.0.0.1:9", SLUICE_TOKEN="x")

    assert completed("sluice unblock ") == ""
    (tmp_path / ".chalice").mkdir()
    (tmp_path / ".chalice" / "config.json").write_text('{"stages": {"prod": {}, "staging": {}}}')
    assert completed(f"sluice doctor --project {tmp_path} --stage s") == "plain,staging"
