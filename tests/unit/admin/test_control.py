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
    pause = desk.undo(released["undo"]).json["pause"]
    assert (pause["paused"], pause["release"], pause["by"]) == (True, False, "alice")


def test_a_pause_ends_by_itself_in_every_answer(desk: Desk) -> None:
    desk.attack("203.0.113.9")
    end = desk.now + 60
    said = desk.call("POST", "/v1/pause", {"release": True, "until": end, "comment": "load test"}).json
    assert said["detail"].startswith("paused until ")
    assert said["detail"].endswith("comment: load test")
    status = desk.call("GET", "/v1/status").json["pause"]
    assert (status["paused"], status["until"], status["comment"]) == (True, end, "load test")
    explained = desk.call("GET", "/v1/clients", address="203.0.113.9").json
    assert any("paused for another " in words for words in explained["explain"])
    desk.clock.wait_until(end)
    assert desk.call("GET", "/v1/status").json["pause"]["paused"] is False
    assert desk.call("GET", "/v1/clients", address="203.0.113.9").json["blocked"] is True
    assert desk.call("POST", "/v1/resume").json["changed"] is False
    again = desk.call("POST", "/v1/pause", {"comment": "another"}).json
    assert again["undo"]["path"] == "/v1/resume"


def test_another_pause_changes_end_and_reason_and_its_undo_restores_them(desk: Desk) -> None:
    first = {"release": False, "until": desk.now + 600, "comment": "load test"}
    desk.call("POST", "/v1/pause", first)
    assert desk.call("POST", "/v1/pause", first).json["changed"] is False
    longer = desk.call("POST", "/v1/pause", {"comment": "it goes on"}).json
    assert (longer["changed"], longer["pause"]["until"]) == (True, 0)
    restored = desk.undo(longer["undo"]).json["pause"]
    assert (restored["until"], restored["comment"]) == (first["until"], "load test")


def test_a_pause_that_would_be_over_is_rejected(desk: Desk) -> None:
    reply = desk.call("POST", "/v1/pause", {"until": desk.now})
    assert reply.status == 422
    assert reply.json["errors"][0]["field"] == "until"
