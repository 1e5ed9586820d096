"""Errors of the use cases. Each names the field, the value and the accepted form."""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from chalicelib.admin.answers import one_of

SHOWN = 100
"""Characters of a rejected value that are shown."""

MOST_FAULTS = 100
"""Most faults named by one error."""


class Fault(msgspec.Struct, frozen=True, rename={"place": "in"}):
    """One invalid value."""

    place: Annotated[str, one_of("body", "query", "header")]
    field: str
    """Name of the field; 'blocks[3].network' within a list; empty for the whole."""
    value: str
    """The value, shortened."""
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
    """A value that is not accepted; the detail names the first three."""

    def __init__(self, *faults: Fault) -> None:
        texts = [": ".join(filter(None, (each.place, each.field, each.accepted))) for each in faults[:3]]
        super().__init__("; ".join(texts) + ("; …" if len(faults) > 3 else ""), faults)


class ForceNeeded(Refused):
    """A call that is carried out only with ``force``."""


class NotFound(Refused):
    """A record that does not exist."""


class StaleVersion(Refused):
    """The change is based on a version that is no longer the active one."""
