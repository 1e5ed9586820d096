"""Unusual but valid lines of web servers."""

from chalicelib.core.addresses import NetworkSet
from chalicelib.core.logs.log_format import DecodeOptions
from chalicelib.core.logs.requests import Source
from sluice.logs.file_decoder import LogDecoder
from sluice.replay.engine import Options
from tests.support import replay_logs as logs
from tests.support.replay_logs import T0


def test_unusual_statuses_users_and_zones_are_decoded() -> None:
    lines = [
        '192.0.2.1 - an odd user [09/Oct/2025:10:53:20 +0200] "GET /a\\"b HTTP/1.1" 404 - "-" "x \\"y\\" z"',
        '2001:DB8::1 - - [09/Oct/2025:08:53:20 +0000] "" 400 0',
        '192.0.2.1 - - [09/Oct/2025:08:53:20 +0000] "\\x16\\x03\\x01" 400 157 "-" "-"',
    ]
    decoded = LogDecoder(DecodeOptions(Options().fields, frozenset(), NetworkSet(()))).decode(logs.chunk(lines))
    (requests,) = decoded.requests
    assert requests.source is Source.WEB_SERVER
    assert set(requests.times) == {T0}

    def cells(name: str) -> list[object]:
        column = requests.columns(name)
        assert column is not None
        return [column.text(cell) for cell in column.cells]

    assert cells("status") == ["404", "400", "400"]
    assert cells("method") == ["GET", "", "\\x16\\x03\\x01"]
    assert cells("path") == ['/a\\"b', "", ""]
    assert cells("user_agent") == ['x \\"y\\" z', "", ""]
