"""``sluice rules check``: errors fail, notes fail with --strict."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sluice import DEFAULT_RULES
from sluice.cli import main

WIDE = '[[rule]]\nname = "wide"\nlimit = 0\nwindow = "5s"\naggregate = { ipv4 = 8 }\n'


def check(*arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(main, ["rules", "check", *arguments], input=text)


def test_the_initial_rules_pass() -> None:
    result = check(str(DEFAULT_RULES), "--strict")
    assert (result.exit_code, result.stdout) == (0, "6 rules, 0 notes\n")


def test_every_error_is_printed_and_fails(tmp_path: Path) -> None:
    result = check("-", text='[[rule]]\nname = "a"\nlimit = -1\nwindow = "2h"\n')
    assert result.exit_code == 1
    assert "Error: rule 'a': limit: -1 is not a whole number from 0 to 1000000000" in result.stdout.replace("\n", " ")
    assert "window: '2h' is outside 1s .. 1h" in result.stdout.replace("\n", " ")


@pytest.mark.parametrize(("strict", "code"), [((), 0), (("--strict",), 1)])
def test_notes_fail_only_with_strict(strict: tuple[str, ...], code: int) -> None:
    result = check("-", "--json", *strict, text=WIDE)
    assert result.exit_code == code
    answer = json.loads(result.stdout)
    assert (answer["valid"], answer["rules"], answer["problems"]) == (True, 1, [])
    assert answer["notes"] == [
        "Rule wide blocks every client that makes one request: a stage accepts it only with force.",
        "Rule wide blocks a whole IPv4 /8, which is wider than /16: a stage accepts it only with force.",
        "Rule wide blocks every client that makes one request. Give it a scope, or a limit.",
    ]


def test_the_log_and_its_sampling_are_options() -> None:
    country = '[[rule]]\nname = "r"\nlimit = 50\nwindow = "5s"\nscope = { country = ["DE"] }\n'
    assert json.loads(check("-", "--json", text=country).stdout)["notes"] == []
    lacking = json.loads(check("-", "--json", "--source", "cloudfront", text=country).stdout)
    assert lacking["notes"] == ["Rule r counts nothing: the cloudfront log lacks country."]
    fields = ("--source", "cloudfront", "--fields", "timestamp,c-ip,c-country")
    assert json.loads(check("-", "--json", *fields, text=country).stdout)["notes"] == []
    (sampled,) = json.loads(check("-", "--json", "--sample-rate", "5", text=country).stdout)["notes"]
    assert "at a sample rate of 5 %" in sampled


def test_a_file_with_errors_as_json() -> None:
    answer = json.loads(check("-", "--json", text="[[rule]]\n").stdout)
    assert answer["valid"] is False
    assert answer["problems"] == [
        "rule number 1: name: missing",
        "rule number 1: limit: missing",
        "rule number 1: window: missing",
    ]


def test_what_the_set_says_of_networks_and_feeds_is_shown_in_words() -> None:
    feed = '[feeds.bot]\nurl = "https://bots.example/list"\nallow = true\n'
    assert check("-", text=f"[networks]\n{feed}").stdout.splitlines() == [
        "0 rules, 0 notes",
        "[networks] blocks networks with 8 blocked clients and at most 2 innocents, up to /16 and, in IPv6, /48.",
        "[feeds.bot]: up to 1,000 networks of https://bots.example/list: never block.",
    ]
