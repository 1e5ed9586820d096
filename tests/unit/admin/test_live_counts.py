from typing import NoReturn

import pytest

from chalicelib.admin.live_counts import Watch
from chalicelib.core.logs.malformed_counts import MalformedCount
from chalicelib.ports import LogItem, Unavailable
from sluice.local.stores import MemoryTallyLogs
from tests.support.admin_api import Desk


def test_requests_after_a_quiet_hour_are_counted(desk: Desk) -> None:
    desk.requests("192.0.2.1", 4)
    desk.run(3)
    assert desk.call("GET", "/v1/top", rule="burst").json["rules"][0]["clients"]
    desk.run(4000)
    assert all(not rule["clients"] for rule in desk.call("GET", "/v1/top").json["rules"])
    desk.requests("192.0.2.2", 5)
    desk.run(3)
    assert desk.call("GET", "/v1/top", rule="burst").json["rules"][0]["clients"][0]["count"] == 5


def test_reading_counts_never_writes_to_the_tally_logs(desk: Desk) -> None:
    desk.requests("192.0.2.1", 4)
    desk.run(3)
    registry, items = desk.cloud.tally_logs.read([])
    assert registry
    for _ in range(2):
        # Long enough that a container that counts would remove the idle logs from the registry.
        desk.clock.wait_until(desk.clock.now() + 4 * 3600)
        desk.call("GET", "/v1/top")
    assert desk.cloud.tally_logs.read([]) == (registry, items)


@pytest.mark.slow
def test_many_items_with_malformed_pieces_are_remembered_as_few_counts() -> None:
    logs = MemoryTallyLogs()
    watch = Watch(logs)
    watch.since(0)
    for offset in range(1000):
        count = MalformedCount(reason="fields", number=2, sample=f"{offset:0160}")
        item = LogItem(body=b"", last_sequence=0, written_ms=offset * 1000, malformed=(count,))
        logs.append("log", offset, [item])
        watch.read([("log", offset), ("log", 0)])
        watch.latest("log", 0, offset + 1)
    assert [count.number for count in watch.malformed] == [2000]
    assert not any(item.malformed for item in watch.items.values())
    watch.since(900_000)
    assert [count.number for count in watch.malformed] == [200]


def test_status_and_clients_report_unreachable_tally_logs(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> NoReturn:
        raise Unavailable("read the tally logs: timed out")

    monkeypatch.setattr(desk.cloud.tally_logs, "read", fail)
    reply = desk.call("GET", "/v1/status")
    assert reply.status == 200
    assert "timed out" in reply.json["ingest"]["problem"]
    assert desk.call("GET", "/v1/top").status == 503
    client = desk.call("GET", "/v1/clients", address="192.0.2.1")
    assert (client.status, client.json["counts"]) == (200, [])
    assert "timed out" in client.json["explain"][-1]
