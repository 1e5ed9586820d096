"""Text that clients wrote is shown as it is: it is no markup, ends no command, and controls no terminal."""

import io
import unicodedata
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from chalicelib.core.printable import printable
from sluice.cli import main
from sluice.commands.shared.output import output, table
from tests.support.replay_logs import ME, T0, Hit, combined, realtime
from tests.support.terminal import Terminal

WRITTEN = (
    "/[/x]",
    "/[red]x",
    "/[link=https://evil.example/]x[/link]",
    "/:bomb:",
    "/a%1B%5B2Jb%0Ac",
    "/%E2%80%AEgpj.exe",
)
"""Paths as CloudFront logs them."""
SHOWN = ("/[/x]", "/[red]x", "/[link=https://evil.example/]x[/link]", "/:bomb:", "/a\\x1b[2Jb\\nc", "/\\u202egpj.exe")
RULES = '[[rule]]\nname = "r"\nlimit = 3\nwindow = "10s"\nblock_for = "10s"\n'


def is_harmless(text: str) -> bool:
    return all(unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} or char == "\n" for char in text)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log whose name, paths and malformed lines are hostile."""
    lines = [realtime(Hit(T0 + n, ME, path=path)).replace("id==", f"id{n}==") for n, path in enumerate(WRITTEN)]
    lines += [combined(Hit(T0 + number, ME, path=path)) for number, path in enumerate(SHOWN)]
    lines += [f"\x1b[2J {path} \u202e" for path in WRITTEN]
    path = tmp_path / "[" / "x]\x1b[2J\u202e.log"
    path.parent.mkdir()
    path.write_text("".join(line + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["explain", ME, "{log}", "--rules", "{rules}"],
        ["decode", "{log}"],
        ["replay", "{log}", "--rules", "{rules}"],
        ["suggest", "{log}"],
        ["compare", "{log}", "--rules", "{rules}", "--aws-waf", "100/60s"],
        ["demo", "--traffic", "{log}", "--rules", "{rules}", "--speed", "max"],
        ["report", "{log}", "--rules", "{rules}", "-o", "{page}"],
    ],
    ids=lambda words: words[0],
)
def test_a_command_shows_the_text_of_a_log_as_it_is(words: list[str], log: Path, tmp_path: Path) -> None:
    rules = log.with_name("rules]\x1b[2J.toml")
    rules.write_text(RULES)
    page = tmp_path / "page.html"
    result = CliRunner().invoke(main, [word.format(log=log, rules=rules, page=page) for word in words])
    assert result.exit_code == 0, result.output
    assert is_harmless(result.stdout.replace(str(page), "")), result.stdout
    assert is_harmless(result.stderr), result.stderr


@pytest.mark.parametrize("words", [["explain", ME, "--rules", "{rules}"], ["decode"]], ids=lambda words: words[0])
def test_each_request_is_in_a_row_of_its_own_whatever_its_path(words: list[str], log: Path) -> None:
    rules = log.with_name("rules.toml")
    rules.write_text(RULES)
    log.write_text("".join(log.read_text().splitlines(keepends=True)[: len(WRITTEN)]))
    result = CliRunner().invoke(main, [*(word.format(rules=rules) for word in words), str(log)])
    rows = [row for row in result.stdout.splitlines() if "www.example.com" in row]
    assert [path for path in SHOWN if not any(path in row for row in rows)] == []
    assert len(rows) == len(SHOWN)


def test_an_operators_command_shows_the_text_of_a_log_as_it_is(terminal: Terminal) -> None:
    terminal.site.attack(ME, path="/[/x]%1B%5B2J")
    terminal.site.put_malformed(b"[/x] \x1b[2J \xe2\x80\xae", b'{"a": "[/red]\\u001b"')
    terminal.site.eventually(lambda: terminal.json("status")["ingest"]["requests_per_second"] > 0)
    for words in (["status"], ["top"], ["client", ME], ["blocks"]):
        assert is_harmless(terminal.run(*words).output), words


@given(st.text())
def test_printable_text_is_one_line_that_reads_as_it_was_written(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    assert "".join(char for char in text if char.isprintable()) == text or len(shown) > len(text)
    shown.encode("utf-8")  # raises for half a surrogate pair


@given(st.binary())
def test_printable_bytes_are_ascii_that_tells_every_byte(data: bytes) -> None:
    shown = printable(data)
    assert shown.isascii()
    assert shown.isprintable()
    assert shown.encode().decode("unicode_escape").encode("latin-1") == data


@given(st.text(max_size=60))
@example("[/x]")
@example("[red]x :bomb:")
def test_a_console_prints_any_text_without_markup_or_control(text: str) -> None:
    lines = [printable(line).strip() for line in text.split("\n")]
    wide = [("x" * 1000, "x")]  # a title is as wide as its table
    cell = table("ab", [(text, "x")])  # which is one line
    for part in (text, table((text, "b"), wide), cell, table("ab", wide, title=text)):
        file = io.StringIO()
        output(file, width=5000).print(part)
        assert is_harmless(file.getvalue())
        shown = [printable(text).strip()] if part is cell else lines
        assert [line for line in shown if line not in file.getvalue()] == []
