"""Errors of the use cases. Each invalid value is named with its field and the accepted form."""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from chalicelib.admin.answers import one_of

SHOWN = 100
"""Most characters shown of a rejected value."""

MOST_FAULTS = 100
"""Most faults named by one error."""


class Fault(msgspec.Struct, frozen=True, rename={"place": "in"}):
    """One invalid value."""

    place: Annotated[str, one_of("body", "query", "header")]
    field: str
    """Name of the field; 'blocks[3].network' within a list; empty for the body as a whole."""
    value: str
    """The value, cut after 100 characters; empty if the field is missing or unknown."""
    accepted: str
    """The accepted form, or what is wrong."""


def fault(place: str, field: str, value: object, accepted: str) -> Fault:
    text = value if isinstance(value, str) else "" if value is None else repr(value)
    return Fault(place, field, text if len(text) <= SHOWN else text[:SHOWN] + "…", accepted)


class Refused(Exception):
    """A call that was not carried out. Nothing was changed."""

    def __init__(self, detail: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)


class Invalid(Refused):
    """Values that are not accepted; the detail names the first three."""

    def __init__(self, *faults: Fault) -> None:
        texts = [": ".join(filter(None, (each.place, each.field, each.accepted))) for each in faults[:3]]
        super().__init__("; ".join(texts) + ("; …" if len(faults) > 3 else ""), faults)


class ForceNeeded(Refused):
    """A call that is carried out only with ``force``."""


class NotFound(Refused):
    """A record that does not exist."""


class StaleVersion(Refused):
    """A change based on a version that is no longer the active one."""
