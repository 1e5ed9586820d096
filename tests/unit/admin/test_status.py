import pytest

from tests.support.admin_api import Desk


def test_status_shows_blocks_ip_sets_rules_sweep_and_ingest(desk: Desk) -> None:
    desk.attack("203.0.113.9")
    desk.put_block("2001:db8::/64", rule="manual")
    desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.0/24"})
    desk.run(60)
    desk.requests("192.0.2.1", 6)
    desk.run(3)
    status = desk.call("GET", "/v1/status").json
    assert status["blocks"] == {
        "active": 2,
        "ipv4": 1,
        "ipv6": 1,
        "withheld": 0,
        "overflow": 0,
        "by_rule": [{"rule": "burst", "blocks": 1}, {"rule": "manual", "blocks": 1}],
    }
    assert [(s["family"], s["networks"], s["capacity"]) for s in status["ip_sets"]] == [(4, 1, 10000), (6, 1, 10000)]
    assert status["allowlist"] == 1
    assert (status["rules"]["version"], status["rules"]["rules"], status["rules"]["problem"]) == (1, 2, None)
    assert status["sweep"]["age_s"] <= 60
    assert status["ingest"]["requests_per_second"] == pytest.approx(0.1)
    assert 0 <= status["ingest"]["lag_ms"] < 3000
