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
