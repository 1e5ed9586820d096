"""The page on logs agrees with the code: every live log is in it, with the price and the format that the code has."""

import re
from pathlib import Path

import pytest

from chalicelib.core.logs.api_gateway import FORMAT
from chalicelib.core.logs.cloudfront import FIELDS
from chalicelib.core.logs.formats import columns_of_logs
from chalicelib.core.logs.json_fields import READ
from chalicelib.core.logs.log_format import DecodeOptions
from chalicelib.core.logs.requests import LIVE_SOURCES, Source
from sluice.deploy.costs import (
    ENVELOPE_LINES,
    ENVELOPE_RATIO,
    INGEST_GB,
    LINE_BYTES,
    LINE_S,
    OBJECTS,
    PRICES,
    SECONDS_PER_MONTH,
    SOURCES,
    dollars_per_million,
    load_of,
    monthly_costs,
    object_costs,
    stream_costs,
    total,
)

TEXT = (Path(__file__).parents[2] / "docs" / "sources.md").read_text(encoding="utf-8")
TABLE = re.search(r"\| log \| `source`.*\n\|[-|]+\n((?:\|.*\n)+)", TEXT)
assert TABLE is not None
ROWS = [[cell.strip() for cell in row.strip("|").split("|")] for row in TABLE[1].splitlines()]
STREAMED = {row[1].strip("`"): row for row in ROWS if row[2]}

COLUMN_TABLE = re.search(r"\| key of \[`scope`\].*\n\|[-|]+\n((?:\|.*\n)+)", TEXT)
assert COLUMN_TABLE is not None
COLUMN_OF_KEY = {"path…": "path", "static": "path", "time": "time_taken"}
COLUMN_ORDER = ("cloudfront", "cloudfront-standard", "waf", "load-balancer", "api-gateway", "web-server", "json")
COLUMN_ROWS = [
    (
        [COLUMN_OF_KEY.get(key, key) for key in re.findall(r"`([^`]+)`", keys) if key not in ("scope", "measure")],
        [cell.strip() for cell in cells],
    )
    for keys, *cells in (row.strip("|").split("|") for row in COLUMN_TABLE[1].splitlines())
]
"""The columns of each row, and a cell for each of ``COLUMN_ORDER``."""

OWN_SERVERS = {Source.WEB_SERVER, Source.JSON}
"""Logs whose size and delay their owners decide."""


def test_every_live_log_is_listed() -> None:
    assert STREAMED.keys() == LINE_BYTES.keys() == {str(source) for source in LIVE_SOURCES if source not in OWN_SERVERS}
    assert {row[1].strip("`") for row in ROWS} <= set(map(str, Source))


@pytest.mark.parametrize("source", LINE_BYTES)
def test_size_and_price_are_those_of_the_cost_estimate(source: str) -> None:
    _, _, size, price, *_ = STREAMED[source]
    assert (size, price) == (f"{LINE_BYTES[source]:,}", f"{dollars_per_million(source):.2f}")


@pytest.mark.parametrize("source", LINE_BYTES)
def test_the_price_is_what_the_bill_of_sluice_cost_has_for_the_lines(source: str) -> None:
    bill = monthly_costs(load_of(source, 1e6 / SECONDS_PER_MONTH))
    by_line = [cost for cost in bill if re.search(r"log lines$|^Kinesis bytes", cost.item)]
    assert len(by_line) == 3
    assert total(by_line) == pytest.approx(dollars_per_million(source))


def test_every_log_of_which_sluice_cost_knows_the_price_is_listed() -> None:
    assert {*STREAMED, OBJECTS} == set(SOURCES)
    assert {row[0].startswith("objects in S3") for row in ROWS if not row[2]} == {True}


@pytest.mark.parametrize(("number", "source"), list(enumerate(COLUMN_ORDER)))
def test_the_columns_that_a_log_has_are_listed(number: int, source: str) -> None:
    listed = {name for names, cells in COLUMN_ROWS for name in names if not re.match(r"no\b", cells[number])}
    every_key = tuple((name, name) for name in READ)
    assert listed == columns_of_logs(DecodeOptions(FIELDS, json_fields=every_key))[Source(source)]


def test_reading_a_million_lines_from_s3_costs_less_than_a_cent() -> None:
    assert {row[3] for row in ROWS if not row[2]} == {"under 0.01"}
    assert (total(object_costs(2e9)) - total(object_costs(1e9))) / 1000 < 0.01


def test_the_format_for_api_gateway_is_the_one_that_is_read() -> None:
    assert f"```json\n{FORMAT}\n```" in TEXT


@pytest.mark.parametrize("source", [source for source in LINE_BYTES if source != "cloudfront"])
def test_a_transformer_of_a_log_group_could_save_little(source: str) -> None:
    """A line costs most where it is delivered. What a transformer leaves out saves at most the rest."""
    said = "4 cents or less per million requests, and ingest's computing for a hundredth of a cent"
    assert said in " ".join(TEXT.split())
    record_bytes = ENVELOPE_LINES * LINE_BYTES[source] / ENVELOPE_RATIO
    _hours, *by_volume = stream_costs(1e6 / ENVELOPE_LINES, record_bytes, shards=0)
    assert 0 < total(by_volume) <= 0.04
    assert 1e6 * LINE_S * INGEST_GB * PRICES["lambda.gb_s"] == pytest.approx(0.0001, rel=0.1)
