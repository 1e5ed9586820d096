"""What callers may send: bodies and query strings, a form each, with every bound."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from chalicelib.admin.blocking import MOST_AT_ONCE
from chalicelib.core import addresses, durations
from chalicelib.core.logs.requests import Source

LATEST_TIME = 253_402_300_799
"""The end of the year 9999."""

Comment = Annotated[
    str,
    Meta(
        max_length=500,
        pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*\Z",
        description="one line of at most 500 characters, none of them a control or direction character",
    ),
]
"""Without what moves a terminal's cursor or turns the direction of text."""

Written = Annotated[
    str,
    Meta(
        min_length=2,
        max_length=49,
        pattern=r"^[0-9A-Fa-f:./]+\Z",
        description=addresses.NO_NETWORK.removeprefix("is not "),
    ),
]
"""A network, before it is parsed."""

Length = Annotated[str, Meta(pattern=r"^[0-9]{1,9}[smhd]\Z", description=durations.ACCEPTED)]
"""A duration, before it is parsed."""

RulesToml = Annotated[str, Meta(max_length=100_000, description="TOML of at most 100,000 characters")]
RuleName = Annotated[str, Meta(min_length=1, max_length=64)]
Cursor = Annotated[
    str, Meta(min_length=1, max_length=1000, pattern=r"^[A-Za-z0-9_-]+\Z", description="'next' of the page before")
]
Version = Annotated[int, Meta(ge=1, le=999_999_999)]


class Form(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Nothing(Form, frozen=True):
    pass


class NewAllow(Form, frozen=True):
    network: Written
    comment: Comment = ""
    expires_at: Annotated[int, Meta(ge=0, le=LATEST_TIME)] | None = None
    force: bool = False


class NewBlock(Form, frozen=True):
    network: Written
    block_for: Length
    comment: Comment = ""
    force: bool = False


class NewBlocks(Form, frozen=True):
    blocks: Annotated[list[NewBlock], Meta(min_length=1, max_length=MOST_AT_ONCE)]


class RulesText(Form, frozen=True):
    text: RulesToml


class NewRules(Form, frozen=True):
    text: RulesToml
    comment: Comment = ""


class Rollback(Form, frozen=True):
    version: Version
    comment: Comment = ""


class NewPause(Form, frozen=True):
    release: bool = False


class Reset(Form, frozen=True):
    quiet_for: Length = "10m"


class Network(Form, frozen=True):
    network: Written


class Address(Form, frozen=True):
    address: Written


class AllowlistPage(Form, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000
    cursor: Cursor | None = None


class Blocks(Form, frozen=True):
    rule: RuleName | None = None
    source: Source | None = None
    text: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    sort: Literal["blocked_at", "-blocked_at", "until", "-until", "count", "-count", "network", "-network"] = (
        "-blocked_at"
    )
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    cursor: Cursor | None = None


class Unblock(Form, frozen=True):
    network: Annotated[list[Written], Meta(min_length=1, max_length=MOST_AT_ONCE)]
    forget: bool = False


class TopOf(Form, frozen=True):
    rule: RuleName | None = None
    n: Annotated[int, Meta(ge=1, le=100)] = 10


class WhichRules(Form, frozen=True):
    format: Literal["json", "toml"] = "json"
    version: Version | None = None


class HistoryPage(Form, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    cursor: Cursor | None = None


class AuditPage(Form, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: Cursor | None = None


class Span(Form, frozen=True):
    span: Annotated[int, Meta(ge=60, le=900)] = 900
    step: Annotated[int, Meta(ge=1, le=300)] = 10
