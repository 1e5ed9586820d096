"""Bounds of answers for the OpenAPI document. Decoding does not check them, because clients join pages."""

from typing import Annotated

from msgspec import Meta


def at_most(items: int) -> Meta:
    """Documents the length of the longest list."""
    return Meta(extra_json_schema={"maxItems": items})


def one_of(*values: int | str) -> Meta:
    """Documents every value of a field."""
    return Meta(extra_json_schema={"enum": list(values)})


LogName = Annotated[str, one_of("cloudfront", "waf")]
"""The log that requests were read from."""
