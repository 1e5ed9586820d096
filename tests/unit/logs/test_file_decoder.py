"""Every line is decoded in its own format or is malformed, counted by reason."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.addresses import NetworkSet
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS
from chalicelib.core.logs.log_format import DecodeOptions
from chalicelib.core.logs.requests import COLUMNS, Source
from sluice.logs.file_decoder import LogDecoder
from sluice.logs.files import Chunk
from sluice.replay.engine import Options, replay
from tests.support import replay_logs as logs
from tests.support.replay_logs import T0, TEXTS, THREE, Hit, one_rule


@given(st.permutations(sorted(TEXTS.keys() - {"v1 without header"})))
@settings(max_examples=25, deadline=None)
def test_one_stream_may_mix_all_formats(order: Sequence[str]) -> None:
    text = "".join(TEXTS[name].rstrip("\n") + "\n" for name in order)
    (result,) = replay([Chunk(text.encode())], [one_rule(2)], Options())
    assert result.stats.malformed.total() == 0
    assert result.stats.requests == 3 * len(order)


@pytest.mark.parametrize("line", [logs.realtime, logs.standard, logs.combined, logs.balancer, logs.waf, logs.v2_json])
def test_lines_of_400_kb_are_requests(line: Callable[[Hit], str]) -> None:
    long = Hit(T0, "192.0.2.1", path="/" + "a" * 400_000)
    header = logs.STANDARD_HEADER if line is logs.standard else ""
    (result,) = replay([logs.chunk([line(long)] * 3, header)], [one_rule(2)], Options())
    assert [str(breach.network) for breach in result.breaches] == ["192.0.2.1/32"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (logs.standard(Hit(T0, "x.x.x.x")), "address"),
        (logs.realtime(Hit(T0, "x.x.x.x")), "address"),
        (logs.combined(Hit(T0, "x.x.x.x")), "address"),
        (logs.balancer(Hit(T0, "x.x.x.x")), "address"),
        (logs.waf(Hit(T0, "x.x.x.x")), "address"),
        (logs.v2_json(Hit(T0, "x.x.x.x")), "address"),
        (logs.standard(Hit(T0, "192.0.2.1")).replace("2025-10-09", "2025-13-40"), "timestamp"),
        (logs.combined(Hit(T0, "192.0.2.1")).replace("Oct", "Okt"), "timestamp"),
        (logs.balancer(Hit(T0, "192.0.2.1")).replace("T08:", "T28:"), "timestamp"),
        (logs.realtime(Hit(T0, "192.0.2.1")) + "\tmore", "fields"),
        (logs.waf(Hit(T0, "192.0.2.1"))[:-9], "json"),
        ('{"messageType":"SOMETHING"}', "envelope"),
        ("no log line of any kind", "fields"),
    ],
)
def test_a_malformed_line_is_counted_by_reason(line: str, reason: str) -> None:
    for lines in ([line], [*map(logs.combined, THREE), line], [line, *map(logs.waf, THREE)]):
        (result,) = replay([logs.chunk(lines)], [one_rule(2)], Options())
        assert dict(result.stats.malformed) == {reason: 1}
        assert result.stats.requests == len(lines) - 1


@pytest.mark.parametrize(
    ("line", "source", "fields"),
    [
        (logs.realtime(Hit(T0, "192.0.2.1")) + "\tmore", Source.CLOUDFRONT, (10, 9)),
        (logs.realtime(Hit(T0, "x.x.x.x")), Source.CLOUDFRONT, None),
        (logs.waf(Hit(T0, "192.0.2.1"))[:-9], Source.WAF, None),
        (logs.v2_json(Hit(T0, "x.x.x.x")), Source.STANDARD, None),
        (logs.balancer(Hit(T0, "192.0.2.1")).replace("T08:", "T28:"), Source.BALANCER, None),
        (logs.combined(Hit(T0, "192.0.2.1")).replace("Oct", "Okt"), Source.WEB_SERVER, None),
        ("no log line of any kind", None, None),
    ],
)
def test_a_malformed_line_names_the_log_it_was_read_as(
    line: str, source: Source | None, fields: tuple[int, int] | None
) -> None:
    decoder = LogDecoder(DecodeOptions(DEFAULT_FIELDS, COLUMNS, NetworkSet(())))
    (piece,) = decoder.decode(logs.chunk([line])).malformed
    assert (piece.source, piece.fields) == (source, fields)


@pytest.mark.parametrize("time", [10**14, 2**63, 2**64, 10**30])
def test_an_implausible_time_is_malformed(time: int) -> None:
    lines = [logs.waf(hit) for hit in THREE] + [logs.waf(Hit(T0, "192.0.2.1")).replace(str(T0), str(time))]
    (result,) = replay([logs.chunk(lines)], [one_rule(2)], Options())
    assert (result.stats.requests, result.stats.malformed.total()) == (3, 1)


@pytest.mark.slow
@given(st.lists(st.binary(max_size=80), max_size=12), st.sampled_from(sorted(TEXTS)))
@settings(max_examples=150, deadline=None)
def test_no_bytes_stop_the_decoder(junk: list[bytes], name: str) -> None:
    text = b"\n".join([*junk, TEXTS[name].encode(), *junk])
    (result,) = replay([Chunk(text)], [one_rule(2)], Options())
    assert result.stats.requests >= 3 or name == "v2 w3c" or any(b"#Fields:" in piece for piece in junk)
