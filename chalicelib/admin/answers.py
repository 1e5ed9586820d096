"""Common parts of answers, and the bounds that the OpenAPI document states for them.

Decoding does not check these bounds, because clients join several pages into one answer. An answer that extends another
struct declares fields without ``kw_only`` to place them before the inherited ones that are keyword-only.
"""

from typing import Annotated, Any, Self, get_args

from msgspec import Meta, Struct

from chalicelib.core.logs.requests import LiveSource, Source
from chalicelib.core.rules import Action, Rule


def at_most(items: int) -> Meta:
    """Returns metadata that documents the length of the longest list."""
    return Meta(extra_json_schema={"maxItems": items})


def one_of(*values: int | str) -> Meta:
    """Returns metadata that documents every value of a field."""
    return Meta(extra_json_schema={"enum": list(values)})


LogName = Annotated[str, one_of(*get_args(LiveSource))]
"""The log that requests were read from."""


class RuleCount(Struct, frozen=True, kw_only=True):
    """The rule and the log that a count belongs to."""

    rule: str
    source: LogName
    limit: int
    window_s: int
    action: Action
    rate: str = ""
    """Rate of the rule's bucket, such as '2/s'; empty for a limit per window. The count is then the number of requests
    above this rate, and the limit is the burst."""
    measure: str = "requests"
    """Unit of count and limit: requests, bytes, or, for time, milliseconds."""

    @classmethod
    def under(cls, rule: Rule, source: Source, **counts: Any) -> Self:
        """Returns a count under a rule in a log; ``counts`` are the fields that do not follow from these."""
        return cls(
            rule=rule.name,
            source=source,
            limit=rule.limit,
            window_s=rule.window_s,
            action=rule.action,
            rate=str(rule.rate or ""),
            measure=str(rule.measure),
            **counts,
        )


class TimedAnswer(Struct, frozen=True):
    now: int
    """The server's time. Epoch seconds."""


class Page(TimedAnswer, frozen=True, kw_only=True):
    next: str | None
    """The cursor of the next page; null on the last page."""
