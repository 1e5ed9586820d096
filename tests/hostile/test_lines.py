"""Hostile log lines (large, malformed, forged, from other times) are counted, never fatal, and harm no other client."""

import gzip
import importlib
import json
import pkgutil
import re
import tracemalloc
from collections.abc import Iterator
from itertools import islice

import pytest

import chalicelib
from chalicelib.core.logs.batch_decoder import PART_TEXT, BatchDecoder
from chalicelib.core.logs.requests import Malformed, Reason
from chalicelib.core.scope import Scope
from sluice.local.cloud import MEMORY_MB
from tests.support.attacks import bomb
from tests.support.records import envelope, waf_text
from tests.support.target import NOW, Target, line

LARGE = 32 << 10
VICTIM, ATTACKER, PROXY = "203.0.113.9", "198.51.100.6", "192.0.2.1"


def often(client: str, number: int = 30, **cells: str) -> list[bytes]:
    """Returns enough lines to be over every limit."""
    return [line(NOW - 3 + 0.05 * n, client, **cells) for n in range(number)]


# Size


def test_large_headers_are_decoded_and_their_memory_is_freed() -> None:
    target = Target()
    large = often(ATTACKER, agent="%41" * (LARGE // 3), path="/" + "a/../" * (LARGE // 5), forwarded="1.1.1.1, " * 3000)
    target.ingest(large)
    assert target.blocked() == {f"{ATTACKER}/32"}
    assert target.logs.write_units == 1


def test_floods_of_large_garbage_do_not_retain_memory() -> None:
    target = Target()
    target.ingest(often(VICTIM, 1))
    tracemalloc.start()
    for number in range(40):
        garbage = bytes([65 + number % 26]) * LARGE
        bad = [
            line(NOW, garbage.decode()),
            garbage,
            waf_text(clientIp=garbage.decode()),
            waf_text(requestId=f"{number}", headers=[{"name": garbage.decode(), "value": "x"}] * 3),
            b"{" + garbage,
            b"\x1f\x8b" + garbage,
        ]
        report = target.ingest(bad * 5)
        target.evaluate()
        assert report.malformed.total() >= 24
        assert max(map(len, report.samples)) < 5 * Malformed.SAMPLE_BYTES
    retained, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert retained < 1_000_000


# Bombs


def test_a_bomb_costs_no_more_than_the_largest_envelope() -> None:
    packed = gzip.compress(bytes(100 << 20), 9, mtime=0)
    tracemalloc.start()
    decoded = BatchDecoder().decode([packed, envelope(waf_text())])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [piece.reason for piece in decoded.malformed] == [Reason.TOO_LARGE]
    assert len(decoded) == 1
    assert most < 40 << 20


def test_a_batch_of_bombs_needs_bounded_memory_and_the_rest_is_counted() -> None:
    many = bomb(b'{"message":""}', 15 << 20)
    large = bomb(b'{"message":"' + b" " * (1 << 20) + b'"}', 15 << 20)
    number = 2 * PART_TEXT // (15 << 20)
    requests = 0
    tracemalloc.start()
    for part in BatchDecoder().parts([many, *[large] * number, envelope(waf_text())]):
        requests += len(part)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert requests == 1
    assert most < 5 * PART_TEXT


def test_valid_records_of_the_largest_size_count_each_within_half_a_containers_memory() -> None:
    # A character beyond the basic plane makes Python keep four bytes for each character of its text.
    large = waf_text(requestId="id", headers=[{"name": "cookie", "value": "x" * 20_000 + "smile"}])
    large = large.replace(b"smile", "\N{GRINNING FACE}".encode())
    number = (192 << 20) // len(large)  # three times what is decoded at once
    ids = iter(range(number))
    batches = [[large.replace(b'"id"', b'"%d"' % id) for id in islice(ids, 700)] for _ in range(0, number, 700)]
    event = [envelope(*batch) for batch in batches]
    del batches
    assert sum(map(len, event)) < 6_000_000
    tracemalloc.start()
    requests = sum(len(part) for part in BatchDecoder().parts(event))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert requests == number
    assert most < MEMORY_MB // 2 << 20


@pytest.mark.parametrize("cut", [1, 20, 100, 200])
def test_a_truncated_envelope_is_malformed_and_stops_nothing(cut: int) -> None:
    whole = envelope(waf_text(), waf_text())
    decoded = BatchDecoder().decode([whole[:-cut], whole, whole[: len(whole) // 2]])
    assert len(decoded) == 2
    assert {piece.reason for piece in decoded.malformed} == {Reason.GZIP}


def test_an_envelope_in_an_envelope_is_not_opened() -> None:
    inner = envelope(waf_text()).decode("latin-1").encode()
    text = json.dumps({"messageType": "DATA_MESSAGE", "logEvents": [{"message": waf_text().decode()}]}).encode()
    decoded = BatchDecoder().decode([envelope(inner, text, waf_text())])
    assert len(decoded) == 1
    assert {piece.reason for piece in decoded.malformed} == {Reason.ENVELOPE, Reason.FIELDS}


@pytest.mark.parametrize("opening", [b"[", b'{"httpRequest":', b'{"a":[', b'"\\'], ids=str)
def test_deeply_nested_json_is_malformed(opening: bytes) -> None:
    deep = b"{" + opening * (LARGE // len(opening))
    decoded = BatchDecoder().decode([deep, envelope(deep), waf_text()])
    assert len(decoded) == 1
    assert {piece.reason for piece in decoded.malformed} <= {Reason.JSON, Reason.FIELDS}


# Regular expressions


def patterns() -> Iterator[tuple[str, "re.Pattern[str] | re.Pattern[bytes]"]]:
    for module in pkgutil.walk_packages(chalicelib.__path__, "chalicelib."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, re.Pattern):
                yield f"{module.name}.{name}", value


def test_no_pattern_repeats_a_repetition() -> None:
    compiled = dict(patterns())
    assert "chalicelib.core.logs.cloudfront._TIME" in compiled
    for name, pattern in compiled.items():
        text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode()
        assert not re.search(r"[*+}]\)[*+{]", text), f"{name}: {text}"


@pytest.mark.parametrize(
    "trap", ["1" * LARGE, "1." * (LARGE // 2), "1760000000." + "0" * LARGE, "%" * LARGE, "," * LARGE]
)
def test_hostile_cells_are_decoded_in_one_pass(trap: str) -> None:
    scope = Scope(path_prefix=("/a",), host=("*.example.com",), user_agent=("curl",), country=("DE",))
    lines = [
        line(NOW, VICTIM).replace(b"1760000000.000", trap.encode()),
        line(NOW, trap),
        line(NOW, VICTIM, agent=trap, path=trap, forwarded=trap),
        line(NOW, VICTIM).replace(b"www.example.com", trap.encode()),
    ]
    decoded = BatchDecoder().decode(lines * 20)
    assert {piece.reason for piece in decoded.malformed} == {Reason.TIMESTAMP, Reason.ADDRESS}
    (requests,) = decoded.requests
    assert len(requests) == 40
    assert scope.rows(requests) == ()


# Forgeries


@pytest.mark.parametrize("forged", [VICTIM, f"{VICTIM}, {VICTIM}", f"{VICTIM}:443", f"[{VICTIM}]", f"{VICTIM},"])
def test_a_forged_forwarded_for_blocks_the_client_that_forged_it(forged: str) -> None:
    target = Target()
    target.ingest(often(ATTACKER, forwarded=forged))
    assert target.blocked() == {f"{ATTACKER}/32"}


@pytest.mark.parametrize("forged", [VICTIM, f"{VICTIM}, {PROXY}", f"{VICTIM}, {PROXY}, {VICTIM}", ", ," * 50 + VICTIM])
def test_a_forged_forwarded_for_through_a_trusted_proxy_blocks_the_client_that_forged_it(forged: str) -> None:
    target = Target(settings={"TRUSTED_PROXIES": "192.0.2.0/24"})
    target.ingest(often(PROXY, forwarded=f"{forged},%20{ATTACKER}"))
    assert target.blocked() == {f"{ATTACKER}/32"}


def test_a_line_inside_a_header_is_not_counted() -> None:
    # CloudFront escapes the tabs and line ends that a client sends; WAF's JSON escapes quotes.
    target = Target()
    smuggled = line(NOW, VICTIM).decode().replace("\t", "%09").replace("\n", "%0A")
    target.ingest(often(ATTACKER, agent=smuggled, path=smuggled))
    quoted = '","clientIp":"203.0.113.9","x":"'
    headers = [{"name": "User-Agent", "value": quoted}, {"name": quoted, "value": quoted}]
    records = [
        waf_text(clientIp=ATTACKER, timestamp=NOW * 1000 + n, headers=headers, uri=quoted, requestId=f"r{n}")
        for n in range(40)
    ]
    target.ingest([envelope(*records)])
    assert target.blocked() == {f"{ATTACKER}/32"}


# Other times


@pytest.mark.parametrize("at", [NOW + 10**4, NOW + 86400 * 3650, 99_999_999_999, NOW - 86400, 0, 10**9])
def test_a_line_from_another_time_clears_no_window(at: float) -> None:
    target = Target()
    for n in range(30):
        report = target.ingest([line(NOW - 3 + 0.1 * n, ATTACKER), line(at, VICTIM)])
        assert report.requests == 1
        assert report.late + report.malformed.total() == 1
        target.evaluate()
    assert target.blocked() == {f"{ATTACKER}/32"}
    assert target.view.entries <= 30


def test_lines_of_the_last_hour_extend_the_view_once_not_with_every_batch() -> None:
    target = Target()
    target.ingest(often(VICTIM, 1))
    target.evaluate()
    target.logs.calls.clear()
    for n in range(20):
        target.now = NOW + n
        target.ingest([line(NOW - 3500 + n, ATTACKER)])
        target.evaluate()
    assert target.logs.calls["latest"] <= 3
    assert target.logs.calls["read"] <= 20 + 3 + 20


def test_times_spread_over_the_hour_need_bounded_memory() -> None:
    target = Target(settings={"VIEW_ENTRIES": "5000"})
    for n in range(10):
        target.now = NOW + n
        target.ingest([line(target.now - 3590 * (k / 3000), f"198.51.{k % 100}.{n}") for k in range(3000)])
        target.evaluate()
    assert target.view.entries <= 5000
