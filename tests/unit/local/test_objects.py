"""Objects in the local cloud: notified as by SQS, and taken from a folder when they are complete."""

import gzip
import os
from pathlib import Path

import pytest

import app
from chalicelib.bootstrap import running_in
from chalicelib.core.state.blocks import Block
from chalicelib.pipeline.import_objects import NotImported
from chalicelib.pipeline.stored import State
from chalicelib.ports import LogObject, Unavailable
from sluice.local.cloud import MOST_RECEIVES, LocalCloud
from sluice.local.events import objects_event
from sluice.local.loop import SimulatedClock
from sluice.local.objects import SETTLED_S, DirectoryObjects
from tests.support.objects import MemoryObjects
from tests.support.records import cloudfront

START = 1_760_000_000.0
RULES = '[[rule]]\nname = "burst"\nlimit = 5\nwindow = "10s"\nblock_for = "10m"\naction = "block"\n'


def lines(number: int, client: str = "203.0.113.9") -> bytes:
    return b"".join(cloudfront(timestamp=f"{START - 5 + n / 100:.3f}", c_ip=client) + b"\n" for n in range(number))


@pytest.fixture
def bucket() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def cloud(bucket: MemoryObjects) -> LocalCloud:
    cloud = LocalCloud(SimulatedClock(START), rules=RULES, objects=bucket)
    cloud.start()
    return cloud


def test_a_client_over_the_limit_in_an_object_is_blocked(cloud: LocalCloud, bucket: MemoryObjects) -> None:
    stored = bucket.put("logs", "one.log.gz", gzip.compress(lines(6)))
    for _ in range(3):
        cloud.notify(stored)
    cloud.loop.run(START + 10)
    assert cloud.telemetry.ingests.requests == 6
    assert cloud.telemetry.objects == 3
    assert [block.network for block in State(cloud.state).records(Block)] == ["203.0.113.9/32"]
    assert cloud.backlog == 0


def test_the_requests_of_a_client_are_added_up_over_objects_and_the_stream(
    cloud: LocalCloud, bucket: MemoryObjects
) -> None:
    cloud.notify(bucket.put("logs", "one.log", lines(2)))
    cloud.notify(bucket.put("logs", "two.log", lines(2)))
    for line in lines(2).splitlines():
        cloud.put(line)
    cloud.loop.run(START + 10)
    assert len(list(State(cloud.state).records(Block))) == 1


def test_requests_of_an_object_that_came_too_late_are_shown(cloud: LocalCloud, bucket: MemoryObjects) -> None:
    stored = bucket.put("logs", "one.log", lines(6))
    cloud.loop.run(START + 3600)
    cloud.notify(stored)
    cloud.notify(stored)
    cloud.loop.run(START + 3610)
    live = cloud.container().live
    live.look(int(cloud.now() * 1000))
    assert sum(item.late for item in live.items.values()) == cloud.telemetry.ingests.late == 6
    assert list(State(cloud.state).records(Block)) == []


def test_an_object_that_cannot_be_read_ends_in_the_dead_letter_queue() -> None:
    other = LocalCloud(SimulatedClock(START), rules=RULES)  # has no bucket
    other.start()
    stored = MemoryObjects().put("logs", "one.log", lines(6))
    other.notify(stored)
    other.loop.run(START + 60)
    assert other.dead_letters == [stored]
    assert len(other.invocation_failures) == MOST_RECEIVES
    assert other.telemetry.failures == ["logs/one.log: no bucket can be read here"] * MOST_RECEIVES


def test_the_function_answers_with_the_messages_that_failed(cloud: LocalCloud, bucket: MemoryObjects) -> None:
    event = objects_event([("one", bucket.put("logs", "one.log", lines(1)), START)])
    broken = objects_event([("two", bucket.put("logs", "two.log", b""), START)])
    broken["Records"][0]["body"] = "not JSON"
    with running_in(cloud.container()):
        assert app.import_objects(event, None) == {"batchItemFailures": []}
        both = {"Records": broken["Records"] + event["Records"]}
        assert app.import_objects(both, None) == {"batchItemFailures": [{"itemIdentifier": "two"}]}
        with pytest.raises(NotImported, match="not a notification about an object"):
            app.import_objects(broken, None)


# A folder


def test_a_file_is_taken_once_it_has_not_changed_for_a_while(tmp_path: Path) -> None:
    bucket = DirectoryObjects(tmp_path)
    path = tmp_path / "2026" / "one.log"
    path.parent.mkdir()
    path.write_bytes(b"half")
    (tmp_path / ".hidden").write_bytes(b"x")
    changed = path.stat().st_mtime
    assert bucket.new(changed + SETTLED_S - 0.5) == []
    (first,) = bucket.new(changed + SETTLED_S)
    assert (first.bucket, first.key) == (tmp_path.name, "2026/one.log")
    assert bucket.new(changed + 100) == []
    path.write_bytes(b"half and the rest")
    os.utime(path, (changed + 100, changed + 100))
    (second,) = bucket.new(changed + 200)
    assert second.key == first.key
    assert second != first


def test_an_unreadable_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(Unavailable, match="Is a directory"):
        list(DirectoryObjects(tmp_path).blocks(LogObject("b", "folder", "1-1")))
