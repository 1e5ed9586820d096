"""Bytes served and time taken, as each log tells them."""

import pytest

from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.requests import BYTES, MEASURED, TIME_TAKEN

REALTIME = ("timestamp", "c-ip", "sc-status", "sc-bytes", "time-taken")
BALANCER = (
    "https 2026-11-30T10:00:00.123000Z app/lb/50dc6c495c0c9188 192.0.2.1:2817 10.0.0.1:80 0.001 1.250 -1 200 200 34 "
    '5120 "GET https://a.example:443/ HTTP/1.1" "curl" ECDHE TLSv1.2 arn:aws:x "Root=1" "a.example" "-" 0 '
    '2026-11-30T10:00:00.123000Z "forward" "-" "-" "10.0.0.1:80" "200" "-" "-"'
)
STANDARD = "#Fields: date time c-ip sc-bytes time-taken\n2026-11-30\t10:00:00\t192.0.2.1\t5120\t1.2519"
STANDARD_JSON = '{"timestamp(ms)":"1790000000123","c-ip":"192.0.2.1","sc-bytes":"5120","time-taken":"1.251"}'
BALANCER_JSON = (
    '{"type":"https","time":"2026-11-30T10:00:00.123000Z","elb":"app/lb/1","client_port":"192.0.2.1:2817",'
    '"request_line":"GET https://a.example:443/ HTTP/1.1","sent_bytes":5120,"request_processing_time":0.001,'
    '"target_processing_time":1.25,"response_processing_time":-1}'
)
COMBINED = '192.0.2.1 - - [30/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 5120 "-" "curl"'
JSON = '{"at":"2026-11-30T10:00:00Z","who":"192.0.2.1","size":5120,"took":1.251}'
WAF = '{"timestamp":1790000000123,"action":"ALLOW","httpRequest":{"clientIp":"192.0.2.1"}}'


@pytest.mark.parametrize(
    ("record", "size", "took"),
    [
        pytest.param("1790000000.123\t192.0.2.1\t200\t5120\t1.251", "5120", "1251", id="real-time"),
        pytest.param(STANDARD, "5120", "1251", id="standard"),
        pytest.param(STANDARD_JSON, "5120", "1251", id="standard as JSON"),
        pytest.param(BALANCER, "5120", "1251", id="load balancer"),
        pytest.param(BALANCER_JSON, "5120", "1251", id="load balancer as JSON"),
        pytest.param(COMBINED, "5120", None, id="web server"),
        pytest.param(JSON, "5120", "1251", id="other JSON"),
        pytest.param(WAF, None, None, id="AWS WAF"),
    ],
)
def test_bytes_and_time_are_read_where_the_log_has_them(record: str, size: str | None, took: str | None) -> None:
    keys = (("time", "at"), ("client", "who"), (BYTES, "size"), (TIME_TAKEN, "took"))
    decoder = BatchDecoder(REALTIME, json_fields=keys)
    decoded = decoder.decode([record.encode()], MEASURED)
    assert not decoded.malformed
    (requests,) = decoded.requests
    columns = {name: requests.columns(name) for name in MEASURED}
    assert {name: column and list(column.texts()) for name, column in columns.items()} == {
        BYTES: size and [size],
        TIME_TAKEN: took and [took],
    }
