"""Objects in S3 are listed within bounds before any is read, and read like files, in parallel."""

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner
from moto import mock_aws

from chalicelib.core.logs.cloudfront_standard import VERSION_1
from chalicelib.edges.s3_objects import S3Objects
from chalicelib.ports import LogObject
from sluice.cli import main
from sluice.logs import s3
from sluice.logs.files import ReadProgress, chunks, find_files, total_bytes
from sluice.logs.s3 import S3Listing
from tests.support.replay_logs import STANDARD_HEADER, T0, TEXTS, Hit, standard, v2_json
from tests.support.tables import CREDENTIALS

pytestmark = pytest.mark.slow  # moto is imported and started

BUCKET = "site-logs"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name.replace("region_name", "aws_default_region").upper(), value)
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client


def put(client: Any, **objects: bytes | str) -> None:
    for key, content in objects.items():
        client.put_object(Bucket=BUCKET, Key=key.replace("__", "/"), Body=content)


def content(name: str, **listing: Any) -> dict[str, bytes]:
    read: dict[str, bytes] = {}
    for chunk in chunks(find_files([name], S3Listing(**listing)), ReadProgress()):
        read[chunk.name] = read.get(chunk.name, b"") + chunk.text
    return read


@pytest.mark.parametrize("block", [30, 8 << 20])
def test_every_object_under_a_prefix_is_read_whole_in_the_order_of_keys(
    bucket: Any, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "BLOCK_BYTES", block)
    expected = {}
    for number in range(20):
        text = b"".join(f"line {line} of {number}\n".encode() for line in range(number % 4 * 5 + 1))
        put(bucket, **{f"a__{number:02}.log": gzip.compress(text) if number % 2 else text})
        expected[f"s3://{BUCKET}/a/{number:02}.log"] = text
    put(bucket, b__other="line\n", a__empty="")
    read = content(f"s3://{BUCKET}/a/")
    assert read == expected
    assert list(read) == sorted(read)


def test_a_replay_of_a_bucket_equals_that_of_the_same_files(bucket: Any, tmp_path: Path) -> None:
    for name, text in TEXTS.items():
        put(bucket, **{f"logs__{name}": gzip.compress(text.encode())})
        (tmp_path / name).write_text(text)
    answers = []
    for name in (str(tmp_path), f"s3://{BUCKET}/logs/"):
        result = CliRunner().invoke(main, ["replay", name, "--json"])
        assert result.exit_code == 0, result.output
        answers.append(json.loads(result.stdout))
    assert answers[0] == answers[1]
    assert answers[0]["requests"] == 3 * len(TEXTS)


def test_number_size_and_price_are_shown_before_anything_is_read(bucket: Any) -> None:
    put(bucket, a="x" * 1_500_000, b="y" * 500_000)
    shown: list[str] = []
    files = find_files([f"s3://{BUCKET}"], S3Listing(report=shown.append))
    assert total_bytes(files) == 2_000_000
    assert shown == [
        f"s3://{BUCKET}: 2 objects, 2.0 MB; up to 0.00 USD at list prices, and 0.00 from within the region"
    ]


@pytest.mark.parametrize(
    ("bounds", "named"), [({"most_objects": 2}, "2 objects"), ({"most_bytes": 2_999_999}, "3.0 MB")]
)
def test_nothing_is_read_beyond_a_bound(bucket: Any, bounds: dict[str, Any], named: str) -> None:
    put(bucket, a="x" * 1_000_000, b="x" * 1_000_000, c="x" * 1_000_000)
    with pytest.raises(OSError, match=f"more than {named}, so none was read"):
        find_files([f"s3://{BUCKET}/"], S3Listing(**bounds))
    assert len(find_files([f"s3://{BUCKET}/"], S3Listing(most_objects=3, most_bytes=3_000_000))) == 3


@pytest.mark.parametrize(("option", "value"), [("--max-objects", "1"), ("--max-bytes", "10")])
def test_the_bounds_are_options_of_each_command(bucket: Any, option: str, value: str) -> None:
    put(bucket, **{name: text.encode() for name, text in TEXTS.items()})
    name = f"s3://{BUCKET}/"
    for command in (["replay"], ["suggest"], ["decode"], ["explain", "192.0.2.1"]):
        result = CliRunner().invoke(main, [*command, name, option, value])
        assert (result.exit_code, option in result.stderr) == (1, True), (command, result.output)


def test_objects_written_before_from_are_left_out(bucket: Any) -> None:
    put(bucket, a="line\n")
    (object,) = bucket.list_objects_v2(Bucket=BUCKET)["Contents"]
    written_ms = int(object["LastModified"].timestamp() * 1000)
    margin = s3.CLOCK_MARGIN_MS
    assert len(find_files([f"s3://{BUCKET}"], S3Listing(from_ms=written_ms + margin))) == 1
    with pytest.raises(OSError, match=r"no object to read \(1 written before --from left out\)"):
        find_files([f"s3://{BUCKET}"], S3Listing(from_ms=written_ms + margin + 1))
    later = datetime.fromtimestamp((written_ms + margin) / 1000 + 60, UTC).isoformat()
    result = CliRunner().invoke(main, ["replay", f"s3://{BUCKET}", "--from", later])
    assert (result.exit_code, "written before --from" in result.stderr) == (1, True)


def test_archived_objects_are_named_and_not_read(bucket: Any) -> None:
    put(bucket, a="line\n")
    bucket.put_object(Bucket=BUCKET, Key="b", Body="line\n", StorageClass="GLACIER")
    shown: list[str] = []
    assert list(content(f"s3://{BUCKET}", report=shown.append)) == [f"s3://{BUCKET}/a"]
    assert "1 object, 0.0 MB (1 archived left out)" in shown[0]


def test_an_object_deleted_since_it_was_listed_is_noted_and_the_others_are_read(bucket: Any) -> None:
    put(bucket, a="1\n", b="2\n", c="3\n")
    files = find_files([f"s3://{BUCKET}/"])
    bucket.delete_object(Bucket=BUCKET, Key="b")
    progress = ReadProgress()
    assert b"".join(chunk.text for chunk in chunks(files, progress)) == b"1\n3\n"
    assert progress.notes == [f"s3://{BUCKET}/b: deleted or replaced since it was listed; the rest is not read"]


def test_the_rest_of_a_file_that_is_not_used_does_not_end_up_in_the_next(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "BLOCK_BYTES", 10)
    put(bucket, a="a" * 1000, b="b" * 35)
    blocks = {}
    for name, content in s3.read_ahead(S3Listing().files(f"s3://{BUCKET}/"), lambda _: None):
        blocks[name] = next(content) if name.endswith("a") else b"".join(content)
    assert blocks == {f"s3://{BUCKET}/a": b"a" * 10, f"s3://{BUCKET}/b": b"b" * 35}


@pytest.mark.parametrize("name", ["s3://", "s3:///key"])
def test_a_name_without_a_bucket_is_an_error(name: str) -> None:
    with pytest.raises(OSError, match="s3://BUCKET/PREFIX"):
        find_files([name])


def test_a_bucket_that_does_not_exist_is_named(bucket: Any) -> None:
    result = CliRunner().invoke(main, ["decode", "s3://no-such-bucket/logs/"])
    assert result.exit_code == 1
    assert "could not list s3://no-such-bucket/logs/: NoSuchBucket" in result.stderr


def test_a_request_in_both_versions_of_the_standard_log_counts_once_and_is_read_once(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hits = [Hit(T0 + 1000 * number, "192.0.2.1") for number in range(3)]
    rows = [standard(hit).split("\t") for hit in hits]
    for number, row in enumerate(rows):
        row[VERSION_1.index("x-edge-request-id")] = f"id{number}=="
    version_2 = [json.loads(v2_json(hit)) | {"x-edge-request-id": f"id{n}=="} for n, hit in enumerate(hits)]
    put(bucket, a=STANDARD_HEADER + "".join("\t".join(row) + "\n" for row in rows))
    put(bucket, b="\n".join(map(json.dumps, version_2)))
    read: list[str] = []

    class Objects(S3Objects):
        def block(self, object: LogObject, start: int) -> tuple[bytes, int]:
            read.append(object.key)
            return super().block(object, start)

    monkeypatch.setattr("chalicelib.edges.s3_objects.S3Objects", Objects)
    result = CliRunner().invoke(main, ["replay", f"s3://{BUCKET}", "--json"])
    assert json.loads(result.stdout)["requests"] == 3
    assert sorted(read) == ["a", "b"]


@pytest.mark.parametrize("command", ["replay", "decode"])
def test_a_command_that_reads_files_of_this_machine_does_not_wait_for_boto3_to_load(
    tmp_path: Path, command: str
) -> None:
    file = tmp_path / "access.log"
    file.write_text(STANDARD_HEADER + standard(Hit(T0, "192.0.2.1")) + "\n")
    program = f"""
import sys
from sluice.cli import main
main([{command!r}, {str(file)!r}, "--json"], standalone_mode=False)
print([name for name in sys.modules if name.startswith("boto")], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert '"requests": ' in done.stdout
    assert done.stderr.splitlines()[-1] == "[]"
