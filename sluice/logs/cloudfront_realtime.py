"""CloudFront real-time logs, decoded as in Lambda."""

from chalicelib.core.logs.cloudfront import CloudFrontLines, time_ms
from sluice.logs.cloudfront_standard import STAMP
from sluice.logs.log_format import LogFormat


def _recognises(line: bytes, header: bytes) -> bool:
    first = line.partition(b"\t")[0]
    # Standard logs may begin with a time as well, but only in whole milliseconds.
    return time_ms(first) is not None and (b"." in first or STAMP.encode() not in header)


REALTIME = LogFormat(
    "CloudFront real-time",
    _recognises,
    lambda options, _: CloudFrontLines(options.realtime_fields, options.trusted).decode,
    cuts_lines=True,
)
