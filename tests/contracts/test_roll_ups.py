"""The contract of ``RollUps``."""

from dataclasses import replace

import pytest

from chalicelib.edges.roll_up_table import FIRST_PAGE, PART, ROLL_UPS, RollUpTable
from chalicelib.edges.tally_table import TallyTable, key_of
from chalicelib.ports import Conflict, Gone, RollUp, RollUps, TallyLogs, Unavailable
from tests.contracts.conftest import ATOMIC, Race
from tests.support.tables import Tables

NOW_MS = 1_760_000_000_123
BODIES = (b"\x78\x01\xff", b"", b"other part")

raced = pytest.mark.parametrize("roll_ups", ATOMIC, indirect=True)


def roll_up(number: int = 0, *, written_ms: int = NOW_MS) -> RollUp:
    return RollUp(
        number=number,
        position={"sluice-logs/shardId-000000000000@1760000000000": 42, "s3/0@1760000000000": 0},
        written_ms=written_ms,
        first_slot_ms=NOW_MS - 3_600_050,
        last_slot_ms=NOW_MS - 23,
        kept_s=33 * 86400,
    )


def same(stored: RollUp) -> RollUp:
    """Returns what was added as ``stored``."""
    return replace(stored, bodies=0, digest="")


def test_a_roll_up_is_returned_as_it_was_added(roll_ups: RollUps) -> None:
    roll_ups.add(roll_up(), BODIES)
    (stored,) = roll_ups.latest(0)
    assert same(stored) == roll_up()
    assert stored.bodies == len(BODIES)
    assert list(roll_ups.bodies(stored)) == list(BODIES)


def test_a_roll_up_may_have_no_parts(roll_ups: RollUps) -> None:
    assert list(roll_ups.latest(0)) == []
    roll_ups.add(replace(roll_up(), position={}, first_slot_ms=0, last_slot_ms=0), ())
    (stored,) = roll_ups.latest(0)
    assert (stored.position, stored.bodies, list(roll_ups.bodies(stored))) == ({}, 0, [])


def test_a_taken_number_is_a_conflict_and_keeps_its_roll_up(roll_ups: RollUps) -> None:
    roll_ups.add(roll_up(), BODIES)
    with pytest.raises(Conflict):
        roll_ups.add(replace(roll_up(), position={}), (b"loser", b"of the race", b"with as many", b"and more"))
    (stored,) = roll_ups.latest(0)
    assert same(stored) == roll_up()
    assert list(roll_ups.bodies(stored)) == list(BODIES)


@raced
def test_of_racing_writers_exactly_one_wins_with_its_own_parts(roll_ups: RollUps, race: Race) -> None:
    rounds = race(roll_ups, lambda number, racer: roll_ups.add(roll_up(number), (b"%d" % racer, b"%d" % racer)))
    assert [len(winners) for winners in rounds] == [1] * len(rounds)
    for stored in roll_ups.latest(0):
        (winner,) = rounds[stored.number]
        assert list(roll_ups.bodies(stored)) == [b"%d" % winner, b"%d" % winner]


def test_roll_ups_come_newest_first_back_to_a_time(roll_ups: RollUps) -> None:
    for number in range(4):
        roll_ups.add(roll_up(number, written_ms=NOW_MS + 1000 * number), ())
    assert [each.number for each in roll_ups.latest(NOW_MS + 2000)] == [3, 2]
    assert [each.number for each in roll_ups.latest(NOW_MS + 2001)] == [3]
    assert [each.number for each in roll_ups.latest(NOW_MS + 9999)] == [3], "the newest is always returned"


def test_more_roll_ups_than_a_page_holds_are_all_returned(roll_ups: RollUps) -> None:
    for number in range(FIRST_PAGE + 2):
        roll_ups.add(roll_up(number), ())
    assert [each.number for each in roll_ups.latest(0)] == list(reversed(range(FIRST_PAGE + 2)))


def test_a_missing_part_is_reported_and_not_left_out(tables: Tables) -> None:
    roll_ups = RollUpTable(tables.client, tables.tally)
    roll_ups.add(roll_up(), BODIES)
    (stored,) = roll_ups.latest(0)
    tables.client.delete_item(TableName=tables.tally, Key=key_of((PART + stored.digest, 1)))
    with pytest.raises(Gone, match="1 of its 3 parts are missing"):
        roll_ups.bodies(stored)


def test_roll_ups_and_their_parts_expire_together_and_are_no_log(tables: Tables) -> None:
    RollUpTable(tables.client, tables.tally).add(roll_up(), BODIES)
    items = tables.client.scan(TableName=tables.tally)["Items"]
    assert {item["expires_at"]["N"] for item in items} == {str(NOW_MS // 1000 + 33 * 86400)}
    assert sorted({item["log"]["S"].partition("/")[0] for item in items}) == [PART.rstrip("/"), ROLL_UPS]
    logs: TallyLogs = TallyTable(tables.client, tables.tally)
    assert logs.read([]) == ({}, {})


def test_a_roll_up_of_another_version_is_not_misread(tables: Tables) -> None:
    roll_ups = RollUpTable(tables.client, tables.tally)
    roll_ups.add(roll_up(), BODIES)
    tables.client.update_item(
        TableName=tables.tally,
        Key=key_of((ROLL_UPS, 0)),
        UpdateExpression="SET v = :other",
        ExpressionAttributeValues={":other": {"N": "2"}},
    )
    with pytest.raises(Unavailable, match="of version 2"):
        roll_ups.latest(0)
