from chalicelib.core.state import Breaker
from chalicelib.pipeline.stored import State
from tests.support.admin_api import Desk


def test_a_pause_stops_new_blocks_and_keeps_running_ones(desk: Desk) -> None:
    desk.attack("203.0.113.9")
    assert desk.call("POST", "/v1/pause").json["pause"]["paused"] is True
    desk.attack("192.0.2.1")
    assert desk.published() == {"203.0.113.9/32"}


def test_a_pause_with_release_empties_the_ip_sets_and_a_resume_fills_them_again(desk: Desk) -> None:
    desk.attack("203.0.113.9")
    paused = desk.call("POST", "/v1/pause", {"release": True})
    desk.run(3)
    assert desk.published() == set()
    assert desk.call("GET", "/v1/status").json["pause"]["release"] is True
    desk.undo(paused.json["undo"])
    desk.run(3)
    assert desk.published() == {"203.0.113.9/32"}


def test_a_resume_is_undone_by_the_former_pause(desk: Desk) -> None:
    desk.call("POST", "/v1/pause", {"release": True})
    resumed = desk.call("POST", "/v1/resume", {}).json
    assert desk.undo(resumed["undo"]).json["pause"]["release"] is True


def test_pausing_twice_and_resuming_twice_are_harmless(desk: Desk) -> None:
    assert desk.call("POST", "/v1/resume").json["changed"] is False
    assert [desk.call("POST", "/v1/pause").json["changed"] for _ in range(2)] == [True, False]
    assert [desk.call("POST", "/v1/resume").json["changed"] for _ in range(2)] == [True, False]
    assert len(desk.audit()) == 2


def test_undoing_a_release_restores_the_former_pause(desk: Desk) -> None:
    desk.call("POST", "/v1/pause")
    released = desk.call("POST", "/v1/pause", {"release": True}).json
    assert desk.undo(released["undo"]).json["pause"] | {"at": 0} == {
        "paused": True,
        "release": False,
        "at": 0,
        "by": "alice",
    }


def test_a_reset_closes_the_breaker_and_enforcement_continues(new_desk: type[Desk]) -> None:
    desk = new_desk({"BREAKER_BLOCKS_PER_MINUTE": "1"})
    for last in (1, 4, 8):
        desk.requests(f"203.0.113.{last}", 40)
    desk.run(5)
    opened = desk.call("GET", "/v1/status").json["breaker"]
    assert opened["open"] is True
    assert opened["would_block"] > 1
    reply = desk.call("POST", "/v1/breaker/reset", {"quiet_for": "1h"})
    assert reply.json["breaker"] == {
        "open": False,
        "at": desk.now,
        "would_block": opened["would_block"],
        "ignore_until": desk.now + 3600,
        "by": "alice",
        "recent": {},
    }
    desk.run(10)
    for last in (1, 4, 8):
        desk.requests(f"203.0.113.{last}", 40)
    desk.run(5)
    assert len(desk.published()) == 3


def test_a_breaker_cannot_be_silenced_for_more_than_a_day(desk: Desk) -> None:
    reply = desk.call("POST", "/v1/breaker/reset", {"quiet_for": "25h"})
    assert (reply.status, reply.fields) == (422, ["quiet_for"])


def test_a_reset_is_undone_by_a_pause(desk: Desk) -> None:
    State(desk.cloud.state).overwrite(Breaker(open=True, at=desk.now, would_block=2000))
    reset = desk.call("POST", "/v1/breaker/reset").json
    desk.undo(reset["undo"])
    desk.attack("203.0.113.9")
    assert desk.published() == set()
