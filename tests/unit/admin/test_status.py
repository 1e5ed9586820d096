import gzip

import pytest

from tests.support.admin_api import Desk


def test_a_log_that_cannot_be_read_is_told_from_no_traffic(desk: Desk) -> None:
    for _ in range(3000):
        desk.cloud.put(b"1790000000.1\t192.0.2.1\n")
    desk.run(3)
    ingest = desk.call("GET", "/v1/status").json["ingest"]
    (malformed,) = ingest["malformed"]
    assert malformed == {
        "source": "cloudfront",
        "reason": "fields",
        "number": 3000,
        "problem": "3,000 lines have 2 fields where CLOUDFRONT_FIELDS names 9",
        "remedy": malformed["remedy"],
        "sample": "1790000000.1\\t192.0.2.1",
        "where": "",
    }
    assert malformed["remedy"].startswith("Set CLOUDFRONT_FIELDS")
    assert ingest["malformed_share"] == 1
    nothing = {"requests_per_second": 0, "lag_ms": None, "counted_at": None, "shards": 0, "problem": None}
    assert {name: ingest[name] for name in nothing} == nothing
    desk.requests("192.0.2.1", 6)
    desk.run(3)
    ingest = desk.call("GET", "/v1/status").json["ingest"]
    assert ingest["malformed_share"] == pytest.approx(3000 / 3006, abs=1e-4)
    assert ingest["shards"] > 0
    desk.run(1000)
    ingest = desk.call("GET", "/v1/status").json["ingest"]
    assert (ingest["malformed"], ingest["malformed_share"]) == ([], 0)


@pytest.mark.parametrize(
    ("content", "reason", "problem", "remedy"),
    [
        pytest.param(
            gzip.compress(b"a line")[:10], "gzip", "1 record has damaged gzip", "Check whether something cuts", id="cut"
        ),
        pytest.param(b"\x1f\x8b\x08no gzip", "gzip", "1 record has damaged gzip", "Check whether", id="no gzip"),
        pytest.param(
            b"PAR1\x15" + bytes(100),
            "unsupported",
            "1 record has an unsupported format: Parquet",
            "Choose one of the formats",
            id="Parquet",
        ),
        pytest.param(b"a,b\n", "fields", "1 line has none of the known formats", "Compare the sample", id="CSV"),
    ],
)
def test_an_object_in_which_nothing_can_be_read_is_named_with_what_to_do(
    desk: Desk, content: bytes, reason: str, problem: str, remedy: str
) -> None:
    stored = desk.bucket.put("site-logs", "AWSLogs/one.log.gz", content)
    for _ in range(3):
        desk.cloud.notify(stored)
        desk.run(3)
    ingest = desk.call("GET", "/v1/status").json["ingest"]
    (malformed,) = ingest["malformed"]
    assert (malformed["reason"], malformed["number"], malformed["problem"]) == (reason, 1, problem)
    assert malformed["where"] == "site-logs/AWSLogs/one.log.gz"
    assert malformed["remedy"].startswith(remedy)
    assert (ingest["malformed_share"], ingest["requests_per_second"]) == (1, 0)


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
        "merged": 0,
        "by_response": [{"response": "block", "blocks": 2}],
        "by_rule": [{"rule": "burst", "blocks": 1}, {"rule": "manual", "blocks": 1}],
    }
    assert [(s["family"], s["networks"], s["capacity"]) for s in status["ip_sets"]] == [(4, 1, 10000), (6, 1, 10000)]
    assert status["allowlist"] == 1
    assert (status["rules"]["version"], status["rules"]["rules"], status["rules"]["problem"]) == (1, 2, None)
    assert status["sweep"]["age_s"] <= 60
    assert status["ingest"]["requests_per_second"] == pytest.approx(0.1)
    assert 0 <= status["ingest"]["lag_ms"] < 3000


def test_status_tells_rules_that_only_count_from_those_that_block(desk: Desk) -> None:
    assert desk.call("GET", "/v1/status").json["rules"]["blocking"] == 1
    for rule in desk.call("GET", "/v1/rules").json["rules"]:
        version = desk.call("GET", "/v1/rules").json["version"]
        edit = {"rule": rule["name"], "action": "count"}
        assert desk.call("POST", "/v1/rules/edit", edit, headers={"If-Match": f'"{version}"'}).status == 200
    rules = desk.call("GET", "/v1/status").json["rules"]
    assert (rules["rules"], rules["blocking"]) == (2, 0)
