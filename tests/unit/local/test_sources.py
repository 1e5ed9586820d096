"""Lines are read once each, across whatever happens to the file."""

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


def test_only_what_is_appended_is_read(follow: Follow, log: Path):
    followed = follow(log)
    assert list(followed.lines()) == []
    append(log, b"one\ntwo\n")
    assert list(followed.lines()) == [b"one\n", b"two\n"]
    assert list(followed.lines()) == []


def test_a_line_is_given_when_it_is_whole(follow: Follow, log: Path):
    followed = follow(log)
    append(log, b"on")
    assert list(followed.lines()) == []
    append(log, b"e\n")
    assert list(followed.lines()) == [b"one\n"]


def test_a_rotated_file_is_read_to_its_end_and_the_new_one_from_its_start(follow: Follow, log: Path):
    followed = follow(log)
    append(log, b"one\nlast")
    log.rename(log.with_suffix(".1"))
    assert list(followed.lines()) == [b"one\n"]
    append(log, b"new\n")
    assert list(followed.lines()) == [b"last\n", b"new\n"]


def test_a_truncated_file_is_read_from_its_start(follow: Follow, log: Path):
    followed = follow(log)
    log.write_bytes(b"n\n")
    assert list(followed.lines()) == [b"n\n"]


def test_a_file_that_is_not_there_yet_is_read_once_it_is(follow: Follow, tmp_path: Path):
    path = tmp_path / "later.log"
    followed = follow(path)
    assert list(followed.lines()) == []
    path.write_bytes(b"one\n")
    assert list(followed.lines()) == [b"one\n"]


def test_a_pipe_gives_every_line_and_tells_its_end():
    ours, theirs = os.pipe()
    piped = PipedLines(ours)
    os.write(theirs, b"one\ntw")
    os.write(theirs, b"o\nlast")
    os.close(theirs)
    found: list[bytes] = []
    while not piped.ended:
        found += piped.lines()
    os.close(ours)
    assert found == [b"one\n", b"two\n", b"last"]
