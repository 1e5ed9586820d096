"""Entries of the allowlist."""

from typing import ClassVar

from chalicelib.core.state.records import NetworkRecord, Seconds


class Allow(NetworkRecord, frozen=True, kw_only=True):
    """A network that is never published, or that some rules do not block."""

    kind: ClassVar[str] = "allow"
    comment: str = ""
    by: str = ""
    added_at: Seconds = 0
    """Time it was added. Epoch seconds."""
    expires_at: Seconds | None = None
    """First second at which it is no longer in force. Epoch seconds."""
    rules: tuple[str, ...] = ()
    """Names of the rules that do not block it; blocks by other rules are published. Empty: it is never published."""

    def in_force(self, now: int) -> bool:
        return self.expires_at is None or now < self.expires_at
