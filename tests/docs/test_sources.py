"""The page on logs agrees with the code: every live log is in it, with the price and the format that the code has."""

import re
from pathlib import Path

import pytest

from chalicelib.core.logs.api_gateway import FORMAT
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.cloudfront import FIELDS
from chalicelib.core.logs.requests import LIVE_SOURCES, Source
from sluice.deploy.costs import (
    ENVELOPE_LINES,
    ENVELOPE_RATIO,
    INGEST_GB,
    LINE_BYTES,
    LINE_S,
    PRICES,
    dollars_per_million,
    object_costs,
    stream_costs,
    total,
)
from tests.support.api_gateway import api
from tests.support.records import cloudfront, waf_text
from tests.support.replay_logs import T0, Hit, balancer, combined, v2_json

TEXT = (Path(__file__).parents[2] / "docs" / "sources.md").read_text(encoding="utf-8")
TABLE = re.search(r"\| log \| `source`.*\n\|[-|]+\n((?:\|.*\n)+)", TEXT)
assert TABLE is not None
ROWS = [[cell.strip() for cell in row.strip("|").split("|")] for row in TABLE[1].splitlines()]
STREAMED = {row[1].strip("`"): row for row in ROWS if row[2]}

HIT = Hit(T0, "192.0.2.1")

OWN_SERVERS = {Source.WEB_SERVER, Source.JSON}
"""Logs whose size and delay their owners decide."""


def test_every_live_log_is_listed() -> None:
    assert STREAMED.keys() == LINE_BYTES.keys() == {str(source) for source in LIVE_SOURCES if source not in OWN_SERVERS}
    assert {row[1].strip("`") for row in ROWS} <= set(map(str, Source))


@pytest.mark.parametrize("source", LINE_BYTES)
def test_size_and_price_are_those_of_the_cost_estimate(source: str) -> None:
    _, _, size, price, *_ = STREAMED[source]
    assert (size, price) == (f"{LINE_BYTES[source]:,}", f"{dollars_per_million(source):.2f}")


SAMPLES = {
    "cloudfront": cloudfront(FIELDS),
    "cloudfront-standard": v2_json(HIT).encode(),
    "waf": waf_text(),
    "load-balancer": balancer(HIT).encode(),
    "api-gateway": api(),
    "web-server": combined(HIT).encode(),
}


@pytest.mark.parametrize("source", SAMPLES)
def test_the_parts_of_a_request_that_a_log_has_are_listed(source: str) -> None:
    (cells,) = re.findall(rf"^\| `{source}` \| (.*) \|$", TEXT, re.MULTILINE)
    (requests,) = BatchDecoder(FIELDS).decode([SAMPLES[source]]).requests
    keys = ("host", "path", "status", "country", "waf_action", "waf_label")
    listed = {key for key, cell in zip(keys, cells.split(" | "), strict=True) if cell != "no"}
    assert requests.source == source
    assert listed == {key for key in keys if requests.columns(key) is not None}


def test_reading_a_million_lines_from_s3_costs_less_than_a_cent() -> None:
    assert {row[3] for row in ROWS if not row[2]} == {"under 0.01"}
    assert (total(object_costs(2e9)) - total(object_costs(1e9))) / 1000 < 0.01


def test_the_format_for_api_gateway_is_the_one_that_is_read() -> None:
    assert f"```json\n{FORMAT}\n```" in TEXT


@pytest.mark.parametrize("source", [source for source in LINE_BYTES if source != "cloudfront"])
def test_a_transformer_of_a_log_group_could_save_little(source: str) -> None:
    """A line costs most where it is delivered. What a transformer leaves out saves at most the rest."""
    assert "is\n4 cents or less of a million requests, and ingest's computing a hundredth of a cent" in TEXT
    record_bytes = ENVELOPE_LINES * LINE_BYTES[source] / ENVELOPE_RATIO
    _hours, *by_volume = stream_costs(1e6 / ENVELOPE_LINES, record_bytes, shards=0)
    assert 0 < total(by_volume) <= 0.04
    assert 1e6 * LINE_S * INGEST_GB * PRICES["lambda.gb_s"] == pytest.approx(0.0001, rel=0.1)
