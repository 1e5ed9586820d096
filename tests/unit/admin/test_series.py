import pytest

from tests.support.admin_api import Desk


def test_series_add_up_to_the_requests_made(desk: Desk) -> None:
    for _ in range(6):
        desk.requests("192.0.2.1", 10)
        desk.run(10)
    desk.attack("203.0.113.9")
    series = desk.call("GET", "/v1/series", span=120, step=10).json
    points = series["points"]
    assert sum(point["requests"] for point in points) == pytest.approx(100, abs=3)
    assert sum(point["detections"] for point in points) == 1
    assert sum(point["blocks"] for point in points) == 1
    assert [point["at"] for point in points] == list(range(points[0]["at"], desk.now + 1, 10))


def test_series_tell_refused_requests_from_others(desk: Desk) -> None:
    desk.requests("192.0.2.1", 10)
    desk.requests("203.0.113.9", 7, status=429)
    desk.run(3)
    points = desk.call("GET", "/v1/series", span=120, step=10).json["points"]
    assert sum(point["refused"] for point in points) == pytest.approx(7, abs=2)
    assert sum(point["requests"] for point in points) == pytest.approx(17, abs=2)


def test_series_leave_out_blocks_that_are_over_although_they_are_still_stored(desk: Desk) -> None:
    desk.put_block("203.0.113.9/32", until=desk.now + 60)
    desk.put_block("203.0.113.7/32", until=desk.now)
    points = desk.call("GET", "/v1/series", span=120, step=10).json["points"]
    assert sum(point["blocks"] for point in points) == 1
