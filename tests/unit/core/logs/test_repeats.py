"""Repeats are known by ids that AWS assigns, and never by one that a client can choose."""

import gzip
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.logs.batch_decoder import BatchDecoder
from tests.support.api_gateway import api
from tests.support.records import cloudfront, envelope, waf_text

TRACE = "1-67891233-abcdef012345678912345678"
BALANCED = (
    '{"type":"https","time":"2025-10-09T08:53:20.%03d000Z","elb":"app/lb/1","client_port":"203.0.113.9:2817",'
    '"elb_status_code":"200","request_line":"GET https://www.example.com:443/ HTTP/1.1","trace_id":"Root=1-a"}'
)


def standard(request_id: str, **more: Any) -> bytes:
    return json.dumps(
        {"timestamp(ms)": "1760000000123", "c-ip": "203.0.113.9", "x-edge-request-id": request_id} | more
    ).encode()


def events(*events: tuple[str, bytes]) -> bytes:
    """Returns an envelope of events with ids."""
    messages = [{"id": id, "timestamp": 1, "message": message.decode()} for id, message in events]
    return json.dumps({"messageType": "DATA_MESSAGE", "logEvents": messages}).encode()


@pytest.mark.parametrize(
    "requests",
    [
        pytest.param(
            [waf_text(timestamp=n, requestId=TRACE, httpSourceName="ALB") for n in range(60)],
            id="a load balancer's trace id",
        ),
        pytest.param([waf_text(requestId=TRACE, httpSourceName="ALB")] * 60, id="the very same record"),
        pytest.param([waf_text(requestId="a", httpSourceName="APIGW")] * 60, id="an API's request id"),
        pytest.param([waf_text(requestId="a", httpSourceName="APPSYNC")] * 60, id="an id of AppSync"),
        pytest.param([waf_text(requestId="a", httpSourceName=...)] * 60, id="an unknown origin"),
        pytest.param([waf_text(requestId="a", httpSourceName=["CF"])] * 60, id="an unreadable origin"),
        pytest.param([BALANCED.encode() % n for n in range(60)], id="the trace id in a load balancer's own log"),
        pytest.param([api(extendedRequestId="a")] * 60, id="an id in the log of an API"),
    ],
)
def test_an_id_that_a_client_can_choose_removes_nothing(requests: list[bytes]) -> None:
    for records in (requests, [envelope(*requests)], [b"".join(requests)]):
        decoded = BatchDecoder().decode(records)
        assert (len(decoded), decoded.repeats, decoded.malformed) == (60, 0, ())


@pytest.mark.parametrize(
    "written",
    [
        lambda request_id: cloudfront(x_edge_request_id=request_id),
        lambda request_id: waf_text(requestId=request_id),
        standard,
    ],
    ids=["real-time", "WAF", "standard"],
)
def test_cloudfronts_own_id_tells_a_repeat(written: Any) -> None:
    decoded = BatchDecoder().decode([written(id) for id in ("a", "b", "a", "-", "-", "", "")])
    assert (len(decoded), decoded.repeats) == (6, 1)


def test_a_request_in_both_versions_of_the_standard_log_counts_once() -> None:
    line = b"#Fields: date time c-ip x-edge-request-id\n2025-10-09\t08:53:20\t203.0.113.9\ta"
    decoded = BatchDecoder().decode([standard("a"), line, standard("b")])
    assert (len(decoded), decoded.repeats) == (2, 1)


def test_an_event_that_is_delivered_again_counts_once() -> None:
    first = events(("1", waf_text(httpSourceName="ALB")), ("2", waf_text(httpSourceName="ALB")))
    again = events(("2", waf_text(httpSourceName="ALB")), ("3", waf_text(httpSourceName="ALB")))
    decoder = BatchDecoder()
    decoded = decoder.decode([first, again, first])
    assert (len(decoded), decoded.repeats) == (3, 3)
    rest = decoder.decode([first, again, first], start=1)
    assert (len(rest), rest.repeats) == (1, 3), "an earlier attempt has counted the first record"


def test_events_without_an_id_or_with_another_message_are_no_repeats() -> None:
    decoded = BatchDecoder().decode([events(("", api()), ("", api()), ("1", api()), ("1", api(status="404")))])
    assert (len(decoded), decoded.repeats) == (4, 0)


def test_the_repeats_of_events_do_not_depend_on_their_order() -> None:
    same, other = ("1", api()), ("1", api(status="404"))
    for order in ((same, same, other), (same, other, same), (other, same, same)):
        decoded = BatchDecoder().decode([events(*order)])
        assert (len(decoded), decoded.repeats) == (2, 1)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.lists(st.tuples(st.sampled_from(["", *"abcd"]), st.integers(0, 2)), max_size=4)),
        max_size=5,
    ),
    st.integers(0, 5),
)
def test_an_event_is_a_repeat_if_its_id_and_its_message_occurred_together(
    records: list[tuple[bool, list[tuple[str, int]]]], start: int
) -> None:
    """Ids that occur with several messages are as CloudWatch Logs promises they never are; each request counts."""
    sent = []
    for is_packed, content in records:
        text = events(*((id, api(status=str(200 + status))) for id, status in content))
        sent.append(gzip.compress(text) if is_packed else text)
    start = min(start, len(sent))
    of_earlier = {event for _, content in records[:start] for event in content}
    rest = [event for _, content in records[start:] for event in content]
    new = {event for event in rest if event[0]} - of_earlier
    number = len(new) + sum(not id for id, _ in rest)
    decoded = BatchDecoder().decode(sent, start=start)
    assert (len(decoded), decoded.repeats) == (number, len(rest) - number)
