"""Bearer tokens of the admin API: 256 random bits, of which only a hash is kept.

A plain hash is enough because 2**256 tokens cannot be tried one by one, as passwords can.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from enum import StrEnum
from hashlib import sha256

import msgspec

from chalicelib.core.state.blocks import FEED_AUTHOR

PREFIX = "sluice_"
"""Start of every token, by which secret scanners recognise a leaked one."""

SECRET_BYTES = 32
LONGEST_NAME = 64
LONGEST_PRESENTED = 200


class Role(StrEnum):
    VIEWER = "viewer"
    """May read."""
    OPERATOR = "operator"
    """May read and change."""

    def covers(self, needed: "Role") -> bool:
        return self is Role.OPERATOR or needed is Role.VIEWER


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """The stored part of a token."""

    name: str
    """The holder, recorded in the audit as the author of a change."""
    role: Role
    hash: str
    """SHA-256 of the whole token, in hexadecimal."""
    created_at: int
    expires_at: int | None = None
    """First second at which it is no longer accepted."""

    @property
    def id(self) -> str:
        """Id that distinguishes this token from others of the same name."""
        return self.hash[:8]


class TokensError(ValueError):
    """Stored tokens that cannot be read, or tokens that do not fit into their store."""


def issue(name: str, role: Role, *, secret: bytes, now: int, expires_at: int | None = None) -> tuple[str, Token]:
    """Returns the text of a new token, to be shown once, and its stored part. ``secret``: 32 random bytes.

    Raises ValueError for an invalid name or secret.
    """
    if name.startswith(FEED_AUTHOR):
        raise ValueError(
            f"name: {name!r} begins with {FEED_AUTHOR!r}, which is reserved for feeds; choose another name"
        )
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise ValueError(f"name: {name!r} is not 1 to {LONGEST_NAME} printable characters")
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"secret: {len(secret)} bytes; {SECRET_BYTES} are needed")
    text = PREFIX + urlsafe_b64encode(secret).rstrip(b"=").decode()
    return text, Token(name=name, role=role, hash=_hash(text), created_at=now, expires_at=expires_at)


def check(presented: str, tokens: Sequence[Token], now: int) -> Token | None:
    """Returns the stored part of ``presented``, or None if it is unknown or has expired.

    Every stored hash is compared, each in constant time, so that the duration reveals nothing.
    """
    if len(presented) > LONGEST_PRESENTED:
        return None
    hashed = _hash(presented)
    matching = [token for token in tokens if hmac.compare_digest(hashed, token.hash)]
    token = matching[-1] if matching else None
    return None if token is None or (token.expires_at is not None and now >= token.expires_at) else token


def bearer(header: str) -> str:
    """Returns the credential in an Authorization header, or an empty text for a scheme other than Bearer.

    >>> bearer("bearer abc"), bearer("Basic abc")
    ('abc', '')
    """
    scheme, _, credential = header.strip().partition(" ")
    return credential.strip() if scheme.lower() == "bearer" else ""


def dump_tokens(tokens: Sequence[Token]) -> str:
    return msgspec.json.encode(tokens).decode()


def load_tokens(text: str) -> tuple[Token, ...]:
    """Returns the tokens in ``text``. Raises TokensError, whose message repeats no name and no hash."""
    try:
        return msgspec.json.decode(text, type=tuple[Token, ...])
    except msgspec.MsgspecError as exc:
        raise TokensError(f"the stored tokens cannot be read: {exc}") from None


def _hash(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
