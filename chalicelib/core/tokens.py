"""Bearer tokens of the admin API: 256 random bits, of which only a hash is kept.

A plain hash is enough: 2**256 tokens cannot be tried, as passwords can.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from enum import StrEnum
from hashlib import sha256

import msgspec

PREFIX = "sluice_"
"""In front of every token, so that a scanner knows one when it leaks."""

SECRET_BYTES = 32
LONGEST_NAME = 64
LONGEST_PRESENTED = 200


class Role(StrEnum):
    VIEWER = "viewer"
    """May look."""
    OPERATOR = "operator"
    """May look and change."""

    def covers(self, needed: "Role") -> bool:
        return self is Role.OPERATOR or needed is Role.VIEWER


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """The stored part of a token."""

    name: str
    """Its holder, as the audit names the author of a change."""
    role: Role
    hash: str
    """SHA-256 of the whole token, in hexadecimal."""
    created_at: int
    expires_at: int | None = None
    """First second at which it is no longer accepted."""

    @property
    def id(self) -> str:
        """Names this token among others of the same name."""
        return self.hash[:8]


class TokensError(ValueError):
    """A store of tokens that cannot be read."""


def issue(name: str, role: Role, *, secret: bytes, now: int, expires_at: int | None = None) -> tuple[str, Token]:
    """The token to be handed over, once, and what is kept of it. ``secret``: 32 random bytes.

    Raises ValueError for a name or secret that cannot be used.
    """
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise ValueError(f"name: {name!r} is not 1 to {LONGEST_NAME} printable characters")
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"secret: {len(secret)} bytes; {SECRET_BYTES} are needed")
    text = PREFIX + urlsafe_b64encode(secret).rstrip(b"=").decode()
    return text, Token(name=name, role=role, hash=_hash(text), created_at=now, expires_at=expires_at)


def check(presented: str, tokens: Sequence[Token], now: int) -> Token | None:
    """The token that ``presented`` is, unless it is unknown or has expired.

    Every stored hash is compared, each in constant time: how long it takes tells nothing.
    """
    if len(presented) > LONGEST_PRESENTED:
        return None
    hashed, found = _hash(presented), None
    for token in tokens:
        if hmac.compare_digest(hashed, token.hash):
            found = token
    if found is None or (found.expires_at is not None and now >= found.expires_at):
        return None
    return found


def bearer(header: str) -> str:
    """The credential in an Authorization header; empty if it is of another scheme.

    >>> bearer("bearer abc"), bearer("Basic abc")
    ('abc', '')
    """
    scheme, _, credential = header.strip().partition(" ")
    return credential.strip() if scheme.lower() == "bearer" else ""


def dump_tokens(tokens: Sequence[Token]) -> str:
    return msgspec.json.encode(tokens).decode()


def load_tokens(text: str) -> tuple[Token, ...]:
    """Raises TokensError; the message holds nothing of the text."""
    try:
        return msgspec.json.decode(text, type=tuple[Token, ...])
    except msgspec.MsgspecError as exc:
        raise TokensError(f"the stored tokens cannot be read: {exc}") from None


def _hash(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
