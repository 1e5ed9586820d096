"""Log records for the scenarios' ``log.py``, each with the time it arrives in Kinesis, in seconds after START."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from tests.support.records import cloudfront, waf_text

START = 1_760_000_400
"""A full minute."""

_numbers: Iterator[int] = count()


@dataclass(frozen=True, slots=True)
class Arrival:
    """A record that arrives in Kinesis."""

    at: float
    """Seconds after START."""
    data: bytes
    shard: int | None = None
    """Number of the shard; a random one if None."""


def request(at: float, client: str, *, arrives: float | None = None, shard: int | None = None, **cells: str) -> Arrival:
    """Returns a line with the default fields for a request at ``at``; by default it arrives half a second later."""
    line = cloudfront(
        **{
            "timestamp": f"{START + at:.3f}",
            "c_ip": client,
            "x_edge_request_id": f"id-{next(_numbers)}==",
            "cs_uri_stem": "/",
            **cells,
        }
    )
    return Arrival(at + 0.5 if arrives is None else arrives, line + b"\n", shard)


def waf_message(at: float, client: str, **changes: object) -> bytes:
    return waf_text(timestamp=round((START + at) * 1000), clientIp=client, requestId=f"id-{next(_numbers)}", **changes)


def control_message() -> bytes:
    return json.dumps("CWL CONTROL MESSAGE: Checking health of destination Kinesis stream.").encode()
