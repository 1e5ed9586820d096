"""The circuit breakers: the rules that are stopped, the clients they would have hit, and resets by an operator."""

from typing import Annotated

import msgspec

from chalicelib.admin.answers import at_most
from chalicelib.admin.changes import Caller, ChangeAnswer, PlannedChange
from chalicelib.admin.errors import Fault, Invalid, NotFound
from chalicelib.admin.inputs import try_duration
from chalicelib.admin.rule_sets import rule_set
from chalicelib.admin.schemas import BreakerReset
from chalicelib.core.breaker import EXAMPLES
from chalicelib.core.state.breakers import Breaker, RuleBreaker
from chalicelib.core.state.operators import Call
from chalicelib.core.state.records import Seconds
from chalicelib.core.wording import roughly
from chalicelib.pipeline.rule_breakers import reset_rule, stopped_rules
from chalicelib.pipeline.stored import State

LONGEST_QUIET_S = 86400

MOST_STOPPED_SHOWN = 1000


class StoppedRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that its circuit breaker has stopped. It blocks no new client, and its offenders wait."""

    rule: str
    stopped_at: Seconds
    """Time at which it was stopped. Epoch seconds."""
    would_hit: int
    """Known clients that it would have blocked within ten minutes."""
    known: int
    """Known clients in all."""
    clients: Annotated[list[str], at_most(EXAMPLES)]
    """Examples of the known clients that it would have blocked, the worst first."""


class BreakerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The circuit breakers of all rules."""

    open: bool = False
    """True if any rule is stopped."""
    at: Seconds = 0
    """Time at which a rule was last stopped, or all were reset; 0: never. Epoch seconds."""
    would_block: int = 0
    """Sum of the known clients that each stopped rule would have blocked; after a reset of all rules, the sum before
    it."""
    ignore_until: Seconds = 0
    """Time until which no rule is stopped after a reset of all. Epoch seconds."""
    by: str = ""
    """The operator who reset all of them last."""
    stopped: Annotated[list[StoppedRule], at_most(MOST_STOPPED_SHOWN)] = []
    """The rules that are stopped, by name."""


class BreakerChange(ChangeAnswer, frozen=True, kw_only=True):
    breaker: BreakerStatus


def breaker_status(reset: Breaker, stopped: list[RuleBreaker]) -> BreakerStatus:
    """Returns the status; ``reset``: the last reset of all rules, ``stopped``: the rules stopped since."""
    return BreakerStatus(
        open=bool(stopped),
        at=max([reset.at, *(breaker.stopped_at for breaker in stopped)]),
        would_block=sum(breaker.would_hit for breaker in stopped) if stopped else reset.would_block,
        ignore_until=reset.ignore_until,
        by=reset.by,
        stopped=[
            StoppedRule(
                rule=breaker.rule,
                stopped_at=breaker.stopped_at,
                would_hit=breaker.would_hit,
                known=breaker.known,
                clients=list(breaker.clients),
            )
            for breaker in stopped[:MOST_STOPPED_SHOWN]
        ],
    )


def reset_breaker(state: State, form: BreakerReset, *, caller: Caller, now: int) -> PlannedChange[BreakerChange]:
    """Resumes one rule, or all, and keeps them from being stopped for ``quiet_for``, whichever clients they hit.

    Raises Invalid and NotFound.
    """
    quiet_s = try_duration(form.quiet_for, "quiet_for", 0, LONGEST_QUIET_S)
    if isinstance(quiet_s, Fault):
        raise Invalid(quiet_s)
    ignore_until = now + quiet_s
    stored, stopped = state.control(Breaker), list(stopped_rules(state))
    reset, which = stored.record, "the breaker"
    if form.rule is None:
        would_block = sum(breaker.would_hit for breaker in stopped) or reset.would_block
        reset = Breaker(at=now, would_block=would_block, ignore_until=ignore_until, by=caller.name)
        write, stopped = state.put(reset, over=stored), []
    else:
        _require_rule(state, form.rule, stopped)
        which = f"the breaker of rule {form.rule}"
        write = reset_rule(state, form.rule, at=now, ignore_until=ignore_until, by=caller.name)
        stopped = [breaker for breaker in stopped if breaker.rule != form.rule]
    return PlannedChange(
        answer=BreakerChange(
            changed=True,
            detail=f"{which} is closed and stays closed for {roughly(quiet_s)}; "
            "waiting offenders are blocked within a minute",
            undo=Call(method="POST", path="/v1/pause", body={"release": False}),
            breaker=breaker_status(reset, stopped),
        ),
        writes=[write],
        action="breaker.reset",
        target=form.rule or "breaker",
    )


def _require_rule(state: State, rule: str, stopped: list[RuleBreaker]) -> None:
    names = [each.name for each in rule_set(state).rules]
    if rule not in names and all(breaker.rule != rule for breaker in stopped):
        raise NotFound(f"There is no rule {rule!r}. Existing rules: {', '.join(names) or 'none'}.")
