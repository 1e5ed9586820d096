"""Log records as CloudFront, AWS WAF and CloudWatch Logs write them, with chosen values; and requests as rows."""

import gzip
import json
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS, FIELDS
from chalicelib.core.logs.requests import Column, Requests, Source

CELLS = {
    "timestamp": "1760000000.123",
    "c-ip": "203.0.113.9",
    "sc-status": "200",
    "cs-method": "GET",
    "cs-host": "www.example.com",
    "cs-uri-stem": "/i?x=1",
    "x-edge-request-id": "-",
    "cs-user-agent": "curl/8.5.0",
    "x-forwarded-for": "-",
    "c-country": "DE",
}

COLUMNS = ("host", "path", "method", "status", "country", "user_agent", "waf_action", "waf_label")


def cloudfront(selection: Sequence[str] = DEFAULT_FIELDS, /, **cells: str) -> bytes:
    """Returns a real-time line of the selected fields; underscores in keyword names stand for hyphens."""
    values = {**CELLS, **{name.replace("_", "-"): cell for name, cell in cells.items()}}
    return "\t".join(values.get(name, "-") for name in FIELDS if name in selection).encode()


def waf(**changes: Any) -> dict[str, Any]:
    """Returns a WAF record. ``changes`` apply to ``httpRequest`` where it has the key; the value ... removes a key."""
    request = {
        "clientIp": "203.0.113.9",
        "country": "US",
        "headers": [{"name": "Host", "value": "www.example.com"}, {"name": "User-Agent", "value": "curl/8.5.0"}],
        "uri": "/login",
        "args": "a=1",
        "httpVersion": "HTTP/2.0",
        "httpMethod": "POST",
        "requestId": "",
        "scheme": "https",
        "host": "www.example.com",
    }
    record: dict[str, Any] = {
        "timestamp": 1760000000123,
        "formatVersion": 1,
        "webaclId": "arn:aws:wafv2:us-east-1:111122223333:global/webacl/edge/1111aaaa-0000-0000-0000-000000000000",
        "terminatingRuleId": "Default_Action",
        "action": "ALLOW",
        "httpSourceName": "CF",
        "ruleGroupList": [],
        "nonTerminatingMatchingRules": [],
        "requestHeadersInserted": None,
        "responseCodeSent": None,
        "httpRequest": request,
        "labels": [{"name": "awswaf:clientip:geo:country:US"}],
    }
    for key, value in changes.items():
        part = request if key in request else record
        if value is ...:
            del part[key]
        else:
            part[key] = value
    return record


def waf_text(**changes: Any) -> bytes:
    return json.dumps(waf(**changes), separators=(",", ":")).encode()


def envelope(*messages: bytes, kind: str = "DATA_MESSAGE") -> bytes:
    """Returns a record of a CloudWatch Logs subscription."""
    body = {
        "messageType": kind,
        "owner": "111122223333",
        "logGroup": "aws-waf-logs-edge",
        "logStream": "us-east-1_edge_0",
        "subscriptionFilters": ["sluice"],
        "logEvents": [
            {"id": f"{number:056d}", "timestamp": 1760000000123, "message": message.decode()}
            for number, message in enumerate(messages)
        ],
    }
    return gzip.compress(json.dumps(body).encode(), 1, mtime=0)


def rows(requests: Requests, *columns: str) -> list[dict[str, Any]]:
    """Returns time, client and ``columns`` per request; the columns that the log lacks are None."""
    values: dict[str, list[Any]] = {"time": requests.times, "client": [str(ip_address(c)) for c in requests.clients]}
    for name in columns or COLUMNS:
        column = requests.columns(name)
        values[name] = [column.text(cell) for cell in column.cells] if column else [None] * len(requests)
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def requests_with(made: Sequence[tuple[int, str]], columns: Mapping[str, Sequence[str]]) -> Requests:
    """Returns requests of CloudFront's real-time log, of which it has only these columns.

    ``made``: time in ms and address of each request.
    """
    return Requests(
        Source.CLOUDFRONT,
        [at_ms for at_ms, _ in made],
        [ip_address(address).packed for _, address in made],
        lambda name: Column(columns[name], str) if name in columns else None,
    )
