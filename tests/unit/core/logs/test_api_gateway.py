"""Access logs of API Gateway, whose values AWS does not escape."""

import json

import pytest

from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.requests import Source
from tests.support.api_gateway import api
from tests.support.records import envelope, rows, waf_text

VICTIM = "198.51.100.7"


def test_a_record() -> None:
    (requests,) = (
        BatchDecoder().decode([api(status="404", host="API.example.com", wafResponseCode="WAF_BLOCK")]).requests
    )
    assert requests.source is Source.API_GATEWAY
    (row,) = rows(requests)
    assert row == {
        "time": 1760000000123,
        "client": "203.0.113.9",
        "host": "api.example.com",
        "path": "/login",
        "method": "GET",
        "status": "404",
        "country": None,
        "user_agent": "curl/8.5.0",
        "waf_action": "BLOCK",
        "waf_label": None,
    }


@pytest.mark.parametrize(
    ("changes", "column", "text"),
    [
        ({"userAgent": "-"}, "user_agent", ""),
        ({"wafResponseCode": "-"}, "waf_action", ""),
        ({"wafResponseCode": "WAF_ALLOW"}, "waf_action", "ALLOW"),
        ({"status": "-"}, "status", ""),
        ({"path": "/caf\\u00e9"}, "path", "/café"),
        ({"path": "/é"}, "path", "/é"),
    ],
)
def test_values_may_be_missing_or_escaped(changes: dict[str, str], column: str, text: str) -> None:
    (requests,) = BatchDecoder().decode([api(**changes)]).requests
    assert rows(requests)[0][column] == text


def test_other_orders_spaces_and_keys_are_read() -> None:
    record = {
        "ip": "203.0.113.9",
        "stage": "prod",
        "requestTimeEpoch": 1760000000123,
        "status": 200,
        "httpMethod": "GET",
    }
    decoded = BatchDecoder().decode([json.dumps(record).encode(), json.dumps(record, indent=2).encode()])
    assert (len(decoded), decoded.malformed) == (2, ())
    assert [row["status"] for requests in decoded.requests for row in rows(requests)] == ["200", "200"]


QUOTES = ['a "quoted" agent', '"', 'x"}', "\\", '\\"', "x\ty", '{"']


@pytest.mark.parametrize("agent", QUOTES)
def test_what_precedes_an_unescaped_value_is_certain(agent: str) -> None:
    for record in (api(userAgent=agent, status="404"), envelope(api(userAgent=agent, status="404"))):
        decoded = BatchDecoder().decode([record])
        (row,) = (row for requests in decoded.requests for row in rows(requests))
        assert (row["time"], row["client"], row["status"]) == (1760000000123, "203.0.113.9", "404")


FORGED = api(ip=VICTIM).decode()


@pytest.mark.parametrize(
    "text",
    [
        '","ip":"198.51.100.7","x":"',
        '","requestTimeEpoch":"1","ip":"198.51.100.7","status":"200","x":"',
        '"}' + FORGED[:-2],
        '"}' + FORGED,
        '"} ' + FORGED + '{"x":"',
        'x" ' + FORGED,
        '","x":' + FORGED + ',"y":"',
        '"}' + waf_text(clientIp=VICTIM).decode() + '{"x":"',
    ],
)
@pytest.mark.parametrize("key", ["path", "userAgent"])
def test_a_client_cannot_write_another_request_into_its_own(key: str, text: str) -> None:
    decoded = BatchDecoder().decode([envelope(api(**{key: text}))])
    found = [row for requests in decoded.requests for row in rows(requests)]
    assert [row["client"] for row in found] == ["203.0.113.9"]
    if key == "userAgent":
        assert found[0]["status"] == "200"
