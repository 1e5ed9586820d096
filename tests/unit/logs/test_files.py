"""Files are read in chunks of whole lines, in bounded memory, and the readable part of damaged files is used."""

import gzip
import zlib
from pathlib import Path

import pytest

from chalicelib.core.logs import framing
from sluice.logs import files
from sluice.logs.files import ReadProgress, chunks
from sluice.replay.engine import Options, replay
from tests.support.replay_logs import TEXTS, one_rule


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_chunks_may_be_cut_anywhere(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", size)
    for name, text in TEXTS.items():
        for stored in (text.encode(), gzip.compress(text.encode())):
            (tmp_path / "log").write_bytes(stored)
            read = chunks([tmp_path / "log"], ReadProgress())
            (result,) = replay(read, [one_rule(2, "10s")], Options())
            assert (result.stats.requests, result.stats.malformed.total()) == (3, 0), name


@pytest.mark.parametrize("cut", range(20, 330, 10))
def test_every_readable_byte_of_a_truncated_gzip_is_used(
    cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The text compresses well, so output is still pending when the input ends.
    monkeypatch.setattr(files, "CHUNK_BYTES", 1000)
    whole = gzip.compress(b"a" * 200_000 + b"\n" + b"b" * 100_000)[:cut]
    (tmp_path / "cut.gz").write_bytes(whole)
    read = list(chunks([tmp_path / "cut.gz"], ReadProgress()))
    assert b"".join(chunk.text for chunk in read) == zlib.decompressobj(wbits=31).decompress(whole)


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_a_chunk_knows_its_file_and_the_numbers_of_its_lines(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", size)
    lines = [f"line {number}\n".encode() for number in range(1, 40)]
    (tmp_path / "a.log").write_bytes(b"".join(lines))
    for chunk in chunks([tmp_path / "a.log"], ReadProgress()):
        for number, line in enumerate(lines, 1):
            assert chunk.where(line) == f"{tmp_path / 'a.log'}" + (f", line {number}" if line in chunk.text else "")


def test_an_endless_line_is_cut_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(framing, "WINDOW", 500)
    monkeypatch.setattr(framing, "LONGEST_PIECE", 5000)
    (tmp_path / "log").write_bytes(b"x" * 50_000 + b"\n" + TEXTS["waf"].encode())
    read = list(chunks([tmp_path / "log"], ReadProgress()))
    assert max(len(chunk.text) for chunk in read) < 7000
    (result,) = replay(read, [one_rule(2, "10s")], Options())
    assert result.stats.requests == 3
