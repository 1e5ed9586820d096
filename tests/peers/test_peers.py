"""Three stories with real clients, real protocols and the deployed handlers."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from chalicelib.ports import LogItem, PartReceipt
from tests.peers.conftest import Deployment
from tests.support.event_source_mapping import Killed

ATTACKER, VISITOR, OTHER = "203.0.113.9", "198.51.100.7", "2001:db8::7"


def test_an_attack_is_blocked_and_released(site: Deployment) -> None:
    site.put(*[ATTACKER] * 21, *[VISITOR] * 20, *[OTHER] * 21)
    site.mappings.settle(62)
    assert site.counted() == 62
    assert site.published() == {f"{ATTACKER}/32", "2001:db8::/64"}
    site.clock.sleep(601)
    site.mappings.sweep()
    site.mappings.settle(62)
    assert site.published() == set()
    assert site.telemetry.failures == []


def test_resharding_during_an_attack_loses_nothing(site: Deployment) -> None:
    site.put(*[ATTACKER] * 8, VISITOR)
    site.mappings.ingest(most=2)
    first, second = site.kinesis.list_shards(StreamName=site.stream)["Shards"]
    middle = int(first["HashKeyRange"]["EndingHashKey"]) // 2
    site.kinesis.split_shard(StreamName=site.stream, ShardToSplit=first["ShardId"], NewStartingHashKey=str(middle))
    settled(site)
    site.put(*[ATTACKER] * 8, VISITOR)
    site.mappings.ingest(most=2)
    *_, last = site.kinesis.list_shards(StreamName=site.stream)["Shards"]
    site.kinesis.merge_shards(
        StreamName=site.stream, ShardToMerge=last["ShardId"], AdjacentShardToMerge=second["ShardId"]
    )
    settled(site)
    site.put(*[ATTACKER] * 8, VISITOR)
    site.mappings.settle(27)
    assert site.counted() == 27
    assert site.published() == {f"{ATTACKER}/32"}


def settled(site: Deployment) -> None:
    site.kinesis.get_waiter("stream_exists").wait(StreamName=site.stream, WaiterConfig={"Delay": 1, "MaxAttempts": 20})


class DiesAppending:
    """The tally logs of a container that is gone before or after its append took effect."""

    def __init__(self, site: Deployment, *, after: bool) -> None:
        self._logs = site.world.tally_logs
        self._after = after
        self.read, self.last, self.latest = self._logs.read, self._logs.last, self._logs.latest
        self.first = self._logs.first
        self.register, self.counted_up_to = self._logs.register, self._logs.counted_up_to
        self.position, self.store_position = self._logs.position, self._logs.store_position

    def append(self, log: str, offset: int, items: Sequence[LogItem], receipt: PartReceipt | None = None) -> None:
        if self._after:
            self._logs.append(log, offset, items, receipt)
        raise Killed


@pytest.mark.parametrize("after", [False, True], ids=["before its append", "after its append"])
def test_a_killed_consumer_counts_once(site: Deployment, *, after: bool) -> None:
    site.put(*[ATTACKER] * 21)
    sound = site.world
    site.world = replace(sound, tally_logs=DiesAppending(site, after=after))
    site.mappings.replace_ingesters(site.container())
    with pytest.raises(Killed):
        site.mappings.settle(21)
    site.world = sound
    site.mappings.replace_ingesters(site.container())
    while site.mappings.read < 21:
        site.mappings.ingest(most=4)
    site.mappings.settle(21)
    assert site.counted() == 21
    assert site.published() == {f"{ATTACKER}/32"}
