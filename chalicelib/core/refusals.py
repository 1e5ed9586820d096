"""Requests that were answered as Sluice answers those it refuses.

A log does not say who refused a request, and an origin may answer in the same way. Such requests are therefore counted
like all others, and once more by themselves, so that the decision, which knows the blocks of a client, can leave out
those that Sluice refused.

AWS WAF answers 202 to a challenged request, and 405 to one without the token of a solved puzzle. So do origins, at the
client's choice: a page that accepts no POST answers 405. So these count as refusals only in a log that names AWS WAF's
action. In any other log, a client that continues despite its challenge is taken for one that has solved it.
"""

from collections.abc import Sequence

from chalicelib.core.logs.requests import Requests, Source
from chalicelib.core.scope import Scope

REFUSAL_STATUS = 429
"""Status with which Sluice's rule group answers the requests it refuses, if no other is chosen."""

STATUSES = tuple(
    str(status) for status in (400, 401, 403, 404, 405, 408, 409, *range(411, 417), 421, 429, *range(500, 506))
)
"""Statuses of errors that AWS WAF can answer with (AWS WAF Developer Guide, "Supported status codes")."""

REFUSAL_ACTION = "BLOCK"
"""Action of AWS WAF on them, in logs that name it."""

_ASKED = frozenset((("202", "CHALLENGE"), ("405", "CAPTCHA")))
"""Status and action of requests that AWS WAF answered itself because they had no valid token."""

TELLING_ACTIONS = frozenset((Source.WAF,))
"""The logs that name a challenge or a puzzle. Those of load balancers and API Gateway only say that AWS WAF refused."""

REFUSAL_COLUMNS = frozenset(("status", "waf_action"))
"""The columns that distinguish such requests from others."""


def refusal_rows(requests: Requests, status: int = REFUSAL_STATUS) -> Sequence[int]:
    """Returns the rows, ascending, of the requests that were answered as refusals; none if the log has no status.

    ``status``: the one with which the rule group refuses requests.
    """
    asks, refused = requests.source in TELLING_ACTIONS, str(status)
    rows = Scope(status=(refused, *(status for status, _ in _ASKED)) if asks else (refused,)).rows(requests) or ()
    statuses, actions = (requests.columns("status"), requests.columns("waf_action")) if rows else (None, None)
    if statuses is None or actions is None:
        return rows
    accepted = {(refused, REFUSAL_ACTION), *(_ASKED if asks else ())}
    answers = ((statuses.text(statuses.cells[row]), actions.text(actions.cells[row])) for row in rows)
    return [row for row, answered in zip(rows, answers, strict=True) if answered in accepted]
