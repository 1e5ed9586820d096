"""All log formats. To add one, write a module that defines a ``LogFormat`` and add it to ``FORMATS``."""

from sluice.logs.aws_waf import ENVELOPE, WAF
from sluice.logs.cloudfront_realtime import REALTIME
from sluice.logs.cloudfront_standard import STANDARD, STANDARD_JSON
from sluice.logs.load_balancer import BALANCER
from sluice.logs.log_format import LogFormat
from sluice.logs.web_server import WEB_SERVER

FORMATS = (ENVELOPE, STANDARD_JSON, WAF, REALTIME, STANDARD, BALANCER, WEB_SERVER)
"""The first one that recognises a line decodes it: those with narrower tests come first."""


def detect(line: bytes, header: bytes = b"") -> LogFormat | None:
    """Returns the format of a line under a ``#Fields`` line, or None if no format recognises it.

    >>> detect(b'{"timestamp":1,"httpRequest":{"clientIp":"192.0.2.1"}}').name
    'AWS WAF'
    """
    return next((log_format for log_format in FORMATS if log_format.recognises(line, header)), None)
