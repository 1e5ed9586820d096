"""Pausing and resuming enforcement, and resetting the circuit breaker."""

from chalicelib.admin.changes import Caller, ChangeAnswer, PlannedChange
from chalicelib.admin.errors import Fault, Invalid
from chalicelib.admin.inputs import try_duration
from chalicelib.admin.schemas import BreakerReset, NewPause
from chalicelib.admin.wording import roughly
from chalicelib.core.state import Breaker, Call, Pause
from chalicelib.pipeline.stored import State

LONGEST_QUIET_S = 86400


class PauseChange(ChangeAnswer, frozen=True, kw_only=True):
    pause: Pause


class BreakerChange(ChangeAnswer, frozen=True, kw_only=True):
    breaker: Breaker


def pause(state: State, form: NewPause, *, caller: Caller, now: int) -> PlannedChange[PauseChange]:
    """Pauses enforcement, and empties the IP sets if asked to."""
    new = Pause(paused=True, release=form.release, at=now, by=caller.name)
    detail = "the IP sets are emptied, so no client is blocked" if form.release else "rules block no new client"
    return _change(state, new, "pause", f"paused: {detail}", "already paused")


def resume(state: State, *, caller: Caller, now: int) -> PlannedChange[PauseChange]:
    new = Pause(paused=False, at=now, by=caller.name)
    return _change(state, new, "resume", "resumed: blocks are enforced again", "not paused")


def reset_breaker(state: State, form: BreakerReset, *, caller: Caller, now: int) -> PlannedChange[BreakerChange]:
    """Closes the breaker and keeps it closed for a time. Raises Invalid."""
    quiet_s = try_duration(form.quiet_for, "quiet_for", 0, LONGEST_QUIET_S)
    if isinstance(quiet_s, Fault):
        raise Invalid(quiet_s)
    stored = state.control(Breaker)
    new = Breaker(open=False, at=now, would_block=stored.record.would_block, ignore_until=now + quiet_s, by=caller.name)
    detail = f"the breaker is closed and stays closed for {roughly(quiet_s)}"
    return PlannedChange(
        answer=BreakerChange(changed=True, detail=detail, undo=_pause_call(release=False), breaker=new),
        writes=[state.put(new, over=stored)],
        action="breaker.reset",
        target="breaker",
    )


def _change(state: State, new: Pause, action: str, detail: str, unchanged: str) -> PlannedChange[PauseChange]:
    stored = state.control(Pause)
    old = stored.record
    if (old.paused, old.released) == (new.paused, new.released):
        answer = PauseChange(changed=False, detail=unchanged, pause=old)
        return PlannedChange(answer=answer, action=action, target="enforcement")
    undo = _pause_call(old.release) if old.paused else Call(method="POST", path="/v1/resume", body={})
    answer = PauseChange(changed=True, detail=detail, undo=undo, pause=new)
    return PlannedChange(answer=answer, writes=[state.put(new, over=stored)], action=action, target="enforcement")


def _pause_call(release: bool) -> Call:
    return Call(method="POST", path="/v1/pause", body={"release": release})
