"""The traces of calls and commands by operators: the pause, the audit, and the place in each web ACL."""

from typing import Annotated, Any, ClassVar

import msgspec

from chalicelib.core.state.records import Control, Milliseconds, Number, Seconds, StateRecord


class Pause(Control, frozen=True, kw_only=True):
    """The pause of enforcement."""

    id: ClassVar[str] = "pause"
    paused: bool = False
    release: bool = False
    """True if the IP sets are emptied as well."""
    at: Seconds = 0
    """Time of the last pause or resume; 0: never. Epoch seconds."""
    by: str = ""
    until: Seconds = 0
    """First second at which enforcement has resumed by itself; 0: it is paused until an operator resumes it. Epoch
    seconds."""
    comment: str = ""
    """The operator's reason."""

    @property
    def released(self) -> bool:
        return self.paused and self.release

    def as_of(self, now: int) -> "Pause":
        """Returns the pause in force at ``now``, in epoch seconds: none from its end on.

        >>> Pause(paused=True, until=10).as_of(9).paused, Pause(paused=True, until=10).as_of(10).paused
        (True, False)
        """
        return Pause(at=self.until, by=self.by) if self.paused and 0 < self.until <= now else self


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call of the admin API, ready to be made."""

    method: Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["PUT", "POST", "DELETE"]})]
    path: str
    """Path below the address of the API, such as /v1/blocks."""
    query: dict[str, list[str]] = {}
    """Values of each parameter."""
    headers: dict[str, str] = {}
    """Headers other than Authorization."""
    body: dict[str, Any] | None = None
    """JSON body, or null if there is none."""


class Audit(StateRecord, frozen=True, kw_only=True):
    """A change made by an operator, or the end of a pause. Ids ascend with time."""

    kind: ClassVar[str] = "audit"
    at_ms: Milliseconds
    """Time of the change. Epoch milliseconds."""
    by: str
    """Name of the token, or ARN."""
    address: str
    """Address the call came from; empty for the end of a pause."""
    request: str
    """API Gateway's id of the call; empty for the end of a pause."""
    action: str
    """Such as allowlist.put or block.delete."""
    target: str
    """The network, rule set or control that was changed."""
    detail: str
    """The change in words."""
    undo: Call | None = None

    def belongs_under(self, id: str) -> bool:  # noqa: ARG002 - the caller chooses it
        return True


class Receipt(StateRecord, frozen=True, kw_only=True):
    """The answer to a call that came with an idempotency key; the id stands for caller and key."""

    kind: ClassVar[str] = "receipt"
    request: str
    """Digest of the call."""
    answer: str
    """JSON."""

    def belongs_under(self, id: str) -> bool:  # noqa: ARG002 - the caller chooses it
        return True


class EarlierRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule of a web ACL that is evaluated before Sluice's and may end the evaluation of a request."""

    name: str
    priority: Number
    effect: str
    """Its effect on the requests that it matches, in words."""
    may_allow: bool
    """True if it can let a request of a blocked client pass."""


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """The place of Sluice's rules in one web ACL."""

    web_acl: str
    """Its name."""
    place: Number
    """1 if it is evaluated first; 0 if the web ACL has none of Sluice's rules."""
    rules: Number
    """Rules in the web ACL."""
    before: tuple[EarlierRule, ...] = ()
    """In the order of evaluation."""

    @property
    def bypassed(self) -> bool:
        """True if requests of blocked clients may pass."""
        return not self.place or any(rule.may_allow for rule in self.before)


class WebAcls(Control, frozen=True, kw_only=True):
    """The web ACLs to which setup added Sluice's rules, as an operator's command last found them."""

    id: ClassVar[str] = "web-acls"
    at: Seconds = 0
    """When it last found them; 0: never. Epoch seconds."""
    web_acls: tuple[Placed, ...] = ()
