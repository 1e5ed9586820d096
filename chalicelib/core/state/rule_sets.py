"""Rule sets, and the ids of their versions."""

from typing import ClassVar

from chalicelib.core.state.records import Seconds, StateRecord


class StoredRules(StateRecord, frozen=True, kw_only=True):
    """A rule set as an operator wrote it."""

    kind: ClassVar[str] = "rule-set"
    text: str
    by: str = ""
    saved_at: Seconds = 0
    comment: str = ""

    def belongs_under(self, id: str) -> bool:
        return id == ACTIVE or (len(id) == VERSION_DIGITS and id.isascii() and id.isdigit())


ACTIVE = "active"
"""Id of the rule set in force."""

VERSION_DIGITS = 10


def version_id(version: int) -> str:
    """Returns the id under which a version of the rule set is kept; ids sort by version, and before ``ACTIVE``.

    >>> version_id(7)
    '0000000007'
    """
    return f"{version:0{VERSION_DIGITS}d}"


def version_number(rule_set: str) -> int:
    """Returns the version that a rule set is named by; 0 if it is named by a digest of its text, or not at all.

    >>> version_number("7"), version_number("9f86d081"), version_number("")
    (7, 0, 0)
    """
    return int(rule_set) if rule_set.isascii() and rule_set.isdigit() and len(rule_set) <= VERSION_DIGITS else 0
