"""Pausing and resuming enforcement, and resetting the circuit breaker."""

from chalicelib.admin.changes import Caller, ChangeAnswer, PlannedChange
from chalicelib.admin.errors import Invalid, fault
from chalicelib.admin.wording import roughly
from chalicelib.core.durations import parse_duration
from chalicelib.core.state import Breaker, Call, Pause
from chalicelib.pipeline.stored import State, Stored

LONGEST_QUIET_S = 86400


class PauseChange(ChangeAnswer, frozen=True, kw_only=True):
    pause: Pause


class BreakerChange(ChangeAnswer, frozen=True, kw_only=True):
    breaker: Breaker


def pause(state: State, *, release: bool, caller: Caller, now: int) -> PlannedChange[PauseChange]:
    """Pauses enforcement; ``release`` also empties the IP sets."""
    stored = state.control(Pause)
    held = stored.record
    if held.paused and held.release == release:
        answer = PauseChange(changed=False, detail="it was paused already", pause=held)
        return PlannedChange(answer=answer, action="pause", target="enforcement")
    new = Pause(paused=True, release=release, at=now, by=caller.name)
    detail = "paused: nobody is refused, the IP sets are emptied" if release else "paused: nothing new is blocked"
    undo = _pause_call(held.release) if held.paused else Call(method="POST", path="/v1/resume", body={})
    return _change(new, stored, PauseChange(changed=True, detail=detail, undo=undo, pause=new), "pause")


def resume(state: State, *, caller: Caller, now: int) -> PlannedChange[PauseChange]:
    stored = state.control(Pause)
    held = stored.record
    if not held.paused:
        answer = PauseChange(changed=False, detail="it was not paused", pause=held)
        return PlannedChange(answer=answer, action="resume", target="enforcement")
    new = Pause(paused=False, at=now, by=caller.name)
    answer = PauseChange(
        changed=True, detail="enforcing: what is blocked is refused", undo=_pause_call(held.release), pause=new
    )
    return _change(new, stored, answer, "resume")


def reset_breaker(state: State, *, quiet_for: str, caller: Caller, now: int) -> PlannedChange[BreakerChange]:
    """Closes the breaker and keeps it closed for ``quiet_for``. Raises Invalid."""
    try:
        quiet_s = parse_duration(quiet_for)
    except ValueError as exc:
        raise Invalid.of([fault("body", "quiet_for", quiet_for, str(exc))]) from exc
    if quiet_s > LONGEST_QUIET_S:
        raise Invalid.of([fault("body", "quiet_for", quiet_for, "at most 1d")])
    stored = state.control(Breaker)
    new = Breaker(open=False, at=now, would_block=stored.record.would_block, ignore_until=now + quiet_s, by=caller.name)
    answer = BreakerChange(
        changed=True,
        detail=f"the breaker is closed, and stays so for {roughly(quiet_s)}",
        undo=_pause_call(release=False),
        breaker=new,
    )
    writes = [state.put(new, over=stored)]
    return PlannedChange(answer=answer, writes=writes, action="breaker.reset", target="breaker")


def _change(new: Pause, over: Stored[Pause], answer: PauseChange, action: str) -> PlannedChange[PauseChange]:
    return PlannedChange(answer=answer, writes=[State.put(new, over=over)], action=action, target="enforcement")


def _pause_call(release: bool) -> Call:
    return Call(method="POST", path="/v1/pause", body={"release": release})
