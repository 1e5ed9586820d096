"""Edits of the text of a rule set, which change one rule and keep everything else."""

import tomllib
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.rules_edit import EditError, edited
from sluice import DEFAULT_RULES

INITIAL = DEFAULT_RULES.read_text("utf-8")


def test_an_edit_changes_one_line_of_the_initial_rules() -> None:
    text = edited(INITIAL, "burst", {"action": "block"})
    changed = [(a, b) for a, b in zip(INITIAL.splitlines(), text.splitlines(), strict=True) if a != b]
    assert changed == [
        (
            'action = "count"              # "count" records what would be blocked, "block" blocks',
            'action = "block"              # "count" records what would be blocked, "block" blocks',
        )
    ]


@pytest.mark.parametrize("rule", ["burst", "sustained", "flood", "login", "scanner", "login-network"])
def test_an_edit_and_the_edit_back_leave_the_text_as_it_was(rule: str) -> None:
    text = edited(INITIAL, rule, {"action": "block", "limit": 7})
    (table,) = [table for table in tomllib.loads(text)["rule"] if table["name"] == rule]
    assert (table["action"], table["limit"]) == ("block", 7)
    (before,) = [table for table in tomllib.loads(INITIAL)["rule"] if table["name"] == rule]
    assert edited(text, rule, {"action": "count", "limit": before["limit"]}) == INITIAL


def test_a_key_that_the_rule_does_not_have_follows_its_name() -> None:
    assert edited('[[rule]]\nname = "a"\nlimit = 1\n', "a", {"action": "count"}) == (
        '[[rule]]\nname = "a"\naction = "count"\nlimit = 1\n'
    )
    assert edited("[[rule]]\r\nlimit = 1\r\nname = 'a'", "a", {"action": "count"}) == (
        "[[rule]]\r\nlimit = 1\r\nname = 'a'\naction = \"count\"\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        'rule = [{ name = "a", limit = 1 }]',
        '[[rule]]\n"name" = "a"\nlimit = 1\n',
        '[[ "rule" ]]\nname = "a"\nlimit = 1\n',
        '[[rule]]\nscope = { user_agent = ["""\n[[rule]]\n"""] }\nname = "a"\n',
        '[[rule]]\nname = "a"\nscope.user_agent = ["""\naction = 7\n"""]\n',
    ],
)
def test_an_unusual_spelling_is_an_error_or_a_right_edit(text: str) -> None:
    expected = tomllib.loads(text)
    expected["rule"][0]["action"] = "count"
    result = ""
    with suppress(EditError):
        result = edited(text, "a", {"action": "count"})
    assert result == "" or tomllib.loads(result) == expected


def test_an_unknown_rule_is_named_with_those_that_exist() -> None:
    with pytest.raises(
        EditError, match="there is no rule 'x'; existing rules: burst, sustained, flood, login, scanner"
    ):
        edited(INITIAL, "x", {"limit": 1})


lines = st.sampled_from(
    [
        "limit = 5",
        "limit=5 # five",
        "  limit = +5",
        'action = "count"',
        "action = 'block' # for now",
        "# action = 7",
        "",
        'block_for = "1h"',
        'scope = { user_agent = ["limit = 9", "[[rule]]"] }',
        'scope = { path = [\n  "/a",\n] }',
    ]
)


@given(
    st.lists(st.lists(lines, unique_by=lambda line: line.strip()[:5]), min_size=1, max_size=4),
    st.data(),
    st.fixed_dictionaries({}, optional={"action": st.sampled_from(["block", "count"]), "limit": st.integers(0, 10**9)}),
)
def test_an_edit_says_what_it_should_and_keeps_every_other_line(
    tables: list[list[str]], data: st.DataObject, values: dict[str, Any]
) -> None:
    text = "".join(f'[[rule]]\nname = "r{n}"\n' + "".join(f"{line}\n" for line in t) for n, t in enumerate(tables))
    number = data.draw(st.integers(0, len(tables) - 1))
    expected = tomllib.loads(text)
    expected["rule"][number].update(values)
    result = edited(text, f"r{number}", values)
    assert tomllib.loads(result) == expected
    before, after = text.splitlines(), result.splitlines()
    assert 0 <= len(after) - len(before) <= len(values)
    assert len([line for line in before if line not in after]) <= len(values)


def test_a_pause_is_added_moved_and_removed_and_the_text_is_as_it_was() -> None:
    text = edited(INITIAL, "login", {"paused_until": datetime(2026, 12, 24, 18, tzinfo=UTC)})
    assert "paused_until = 2026-12-24T18:00:00Z\n" in text
    berlin = timezone(timedelta(hours=1))
    later = edited(text, "login", {"paused_until": datetime(2026, 12, 24, 20, tzinfo=berlin)})
    assert later == text.replace("T18:", "T19:")
    assert edited(later, "login", {"paused_until": None}) == INITIAL


def test_the_end_of_a_pause_that_does_not_exist_changes_nothing() -> None:
    assert edited(INITIAL, "login", {"paused_until": None}) == INITIAL
