"""Each line is read once, across rotation and truncation of the file."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from sluice.local.sources import FollowedFile, PipedLines

Follow = Callable[[Path], FollowedFile]


@pytest.fixture
def follow() -> Iterator[Follow]:
    with ExitStack() as stack:
        yield lambda path: stack.enter_context(closing(FollowedFile(path)))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.write_bytes(b"old\n")
    return path


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_only_appended_lines_are_read(follow: Follow, log: Path) -> None:
    followed = follow(log)
    assert list(followed.lines()) == []
    append(log, b"one\ntwo\n")
    assert list(followed.lines()) == [b"one\n", b"two\n"]
    assert list(followed.lines()) == []


def test_a_line_is_returned_once_it_is_complete(follow: Follow, log: Path) -> None:
    followed = follow(log)
    append(log, b"on")
    assert list(followed.lines()) == []
    append(log, b"e\n")
    assert list(followed.lines()) == [b"one\n"]


def test_a_rotated_file_is_read_to_its_end_and_its_successor_from_the_start(follow: Follow, log: Path) -> None:
    followed = follow(log)
    append(log, b"one\nlast")
    log.rename(log.with_suffix(".1"))
    assert list(followed.lines()) == [b"one\n"]
    append(log, b"new\n")
    assert list(followed.lines()) == [b"last\n", b"new\n"]


def test_a_truncated_file_is_read_from_its_start(follow: Follow, log: Path) -> None:
    followed = follow(log)
    log.write_bytes(b"n\n")
    assert list(followed.lines()) == [b"n\n"]


def test_a_file_that_does_not_exist_yet_is_read_once_it_does(follow: Follow, tmp_path: Path) -> None:
    path = tmp_path / "later.log"
    followed = follow(path)
    assert list(followed.lines()) == []
    path.write_bytes(b"one\n")
    assert list(followed.lines()) == [b"one\n"]


def test_a_pipe_returns_every_line() -> None:
    ours, theirs = os.pipe()
    piped = PipedLines(ours)
    os.write(theirs, b"one\ntw")
    os.write(theirs, b"o\nlast")
    os.close(theirs)
    lines: list[bytes] = []
    while len(lines) < 3:
        lines += piped.lines()
    os.close(ours)
    assert lines == [b"one\n", b"two\n", b"last"]
