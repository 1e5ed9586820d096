"""Pausing and resuming enforcement."""

from chalicelib.admin.changes import Caller, ChangeAnswer, PlannedChange
from chalicelib.admin.schemas import NewPause
from chalicelib.core.state import Call, Pause
from chalicelib.pipeline.stored import State


class PauseChange(ChangeAnswer, frozen=True, kw_only=True):
    pause: Pause


def pause(state: State, form: NewPause, *, caller: Caller, now: int) -> PlannedChange[PauseChange]:
    """Pauses enforcement, and empties the IP sets if asked to."""
    new = Pause(paused=True, release=form.release, at=now, by=caller.name)
    detail = "the IP sets are emptied, so no client is blocked" if form.release else "rules block no new client"
    return _change(state, new, "pause", f"paused: {detail}", "already paused")


def resume(state: State, *, caller: Caller, now: int) -> PlannedChange[PauseChange]:
    new = Pause(paused=False, at=now, by=caller.name)
    return _change(state, new, "resume", "resumed: blocks are enforced again", "not paused")


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
