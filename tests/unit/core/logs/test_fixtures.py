"""Each format has a folder with a log and the requests in it. A folder without the latter is proposed one and fails."""

import json
from pathlib import Path

import pytest

from chalicelib.config import read_config
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.formats import LINE_FORMATS, OBJECT_FORMATS
from chalicelib.core.logs.log_format import DecodeOptions
from chalicelib.core.logs.requests import COLUMNS as ALL
from chalicelib.core.logs.requests import Requests
from chalicelib.core.logs.text_decoder import TextDecoder
from tests.support.records import COLUMNS, rows

FOLDERS = sorted(path for path in (Path(__file__).parent / "formats").iterdir() if path.is_dir())


def columns_of(requests: Requests) -> list[str]:
    """Returns the columns that every log has or lacks in its fixture, and those others that this log has."""
    return [*COLUMNS, *(name for name in sorted(ALL - {*COLUMNS}) if requests.columns(name))]


@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
def test_the_requests_of_a_log(folder: Path) -> None:
    settings = folder / "settings.json"
    config = read_config(json.loads(settings.read_text()) if settings.exists() else {})
    text = (folder / "log").read_bytes()
    in_lambda = BatchDecoder(config.cloudfront_fields, json_fields=config.json_fields).decode([text])
    options = DecodeOptions(config.cloudfront_fields, json_fields=config.json_fields)
    for decoded in (in_lambda, TextDecoder(options).decode(text)):
        assert not decoded.malformed
        found = [
            {"source": str(part.source), **row} for part in decoded.requests for row in rows(part, *columns_of(part))
        ]
        requests = folder / "requests.json"
        if not requests.exists():
            requests.write_text("".join(json.dumps(request) + "\n" for request in found))
            pytest.fail(f"{requests} was missing: review the one that is proposed")
        expected = [json.loads(line) for line in requests.read_text().splitlines()]
        assert json.loads(json.dumps(found)) == expected


def test_every_format_has_a_folder() -> None:
    assert len(FOLDERS) >= len(LINE_FORMATS) + len(OBJECT_FORMATS)
