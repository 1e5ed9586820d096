"""Requests that were answered as Sluice answers those it refuses.

A log does not say who refused a request, and an origin may answer in the same way. Such requests are therefore counted
like all others, and once more by themselves, so that the decision, which knows the blocks of a client, can leave out
those that Sluice refused.
"""

from collections.abc import Sequence

from chalicelib.core.logs.requests import Requests
from chalicelib.core.scope import Scope

REFUSAL_STATUS = 429
"""Status with which Sluice's rule group answers the requests it refuses."""

REFUSAL_ACTION = "BLOCK"
"""Action of AWS WAF on them, in logs that tell it."""

REFUSAL_COLUMNS = frozenset(("status", "waf_action"))
"""The columns that tell such requests from others."""

_ANSWERED = Scope(status=(str(REFUSAL_STATUS),))


def refusal_rows(requests: Requests) -> Sequence[int]:
    """Returns the rows, ascending, of the requests that were answered as refusals; none if the log has no status."""
    rows = _ANSWERED.rows(requests) or ()
    actions = requests.columns("waf_action") if rows else None
    if actions is None:
        return rows
    return [row for row in rows if actions.text(actions.cells[row]) == REFUSAL_ACTION]
