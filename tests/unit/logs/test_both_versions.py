"""Requests in both versions of CloudFront's standard log count once."""

import gzip
import json
from pathlib import Path

import pytest

from chalicelib.core.logs.cloudfront_standard import VERSION_1
from sluice.logs import both_versions
from sluice.logs.files import Chunk, ReadProgress, chunks, find_files
from sluice.replay.engine import Options, replay
from tests.support import replay_logs as logs
from tests.support.replay_logs import T0, Hit, one_rule

HITS = [(Hit(T0 + 1000 * number, "192.0.2.1"), f"id{number}==") for number in range(3)]


def version_1(hits: list[tuple[Hit, str]]) -> bytes:
    at = VERSION_1.index("x-edge-request-id")
    rows = [(logs.standard(hit).split("\t"), id) for hit, id in hits]
    lines = ["\t".join([*row[:at], id, *row[at + 1 :]]) for row, id in rows]
    return (logs.STANDARD_HEADER + "\n".join(lines) + "\n").encode()


def version_2(hits: list[tuple[Hit, str]]) -> bytes:
    records = [json.dumps(json.loads(logs.v2_json(hit)) | {"x-edge-request-id": id}) + "\n" for hit, id in hits]
    return "".join(records).encode()


def requests_of(read: object) -> tuple[int, list[int]]:
    (result,) = replay(read, [one_rule(2, "10s")], Options())  # type: ignore[arg-type]
    assert result.stats.malformed.total() == 0
    return result.stats.requests, [breach.peak for breach in result.breaches]


@pytest.mark.parametrize("order", [("v1.gz", "v2"), ("v2", "v1.gz"), ("v1.gz", "v2", "w3c")])
def test_files_of_both_versions_add_up_to_one_log(order: tuple[str, ...], tmp_path: Path) -> None:
    w3c = b"#Fields: date time c-ip x-edge-request-id\n" + b"".join(
        f"2025-10-09\t08:53:2{number}\t192.0.2.1\t{id}\n".encode() for number, (_, id) in enumerate(HITS)
    )
    contents = {"v1.gz": gzip.compress(version_1(HITS)), "v2": version_2(HITS), "w3c": w3c}
    for name in order:
        (tmp_path / name).write_bytes(contents[name])
    names = [str(tmp_path / name) for name in order]
    assert requests_of(chunks(find_files(names), ReadProgress())) == (3, [3])


def test_both_versions_in_one_file_or_stream_add_up_to_one_log(tmp_path: Path) -> None:
    (tmp_path / "both").write_bytes(version_1(HITS) + version_2(HITS))
    assert requests_of(chunks([tmp_path / "both"], ReadProgress())) == (3, [3])
    assert requests_of([Chunk(version_1(HITS)), Chunk(version_2(HITS))]) == (3, [3])


def test_requests_of_one_version_alone_and_without_an_id_all_count() -> None:
    others = [(hit, f"other{number}") for number, (hit, _) in enumerate(HITS)]
    assert requests_of([Chunk(version_1(HITS)), Chunk(version_2(others))]) == (6, [6])
    unknown = [(hit, "-") for hit, _ in HITS]
    assert requests_of([Chunk(version_1(unknown)), Chunk(version_2(unknown))]) == (6, [6])


def test_memory_for_ids_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(both_versions, "MOST_IDS", 3)
    others = [(hit, f"other{number}") for number, (hit, _) in enumerate(HITS)]
    read = [Chunk(version_1(HITS)), Chunk(version_1(others)), Chunk(version_2(HITS)), Chunk(version_2(others))]
    assert requests_of(read) == (9, [9])
