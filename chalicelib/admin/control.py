"""Pausing and resuming enforcement."""

from typing import Any

from chalicelib.admin.changes import Caller, ChangeAnswer, PlannedChange
from chalicelib.admin.errors import Invalid, fault
from chalicelib.admin.schemas import NewPause
from chalicelib.core.durations import utc_text
from chalicelib.core.state.operators import Call, Pause
from chalicelib.core.wording import commented
from chalicelib.pipeline.stored import State


class PauseChange(ChangeAnswer, frozen=True, kw_only=True):
    pause: Pause


def pause(state: State, form: NewPause, *, caller: Caller, now: int) -> PlannedChange[PauseChange]:
    """Pauses enforcement, and empties the IP sets if asked to; or changes end, reason or release of a pause.

    Raises Invalid.
    """
    if form.until is not None and form.until <= now:
        raise Invalid(fault("body", "until", form.until, f"epoch seconds after now, which is {now}"))
    until, comment = form.until or 0, form.comment
    new = Pause(paused=True, release=form.release, at=now, by=caller.name, until=until, comment=comment)
    detail = f"paused until {utc_text(until)}" if until else "paused"
    detail += ": the IP sets are emptied, so no client is blocked" if form.release else ": rules block no new client"
    detail += commented([comment])
    return _change(state, new, "pause", detail, "already paused")


def resume(state: State, *, caller: Caller, now: int) -> PlannedChange[PauseChange]:
    new = Pause(paused=False, at=now, by=caller.name)
    return _change(state, new, "resume", "resumed: blocks are enforced again", "not paused")


def _change(state: State, new: Pause, action: str, detail: str, unchanged: str) -> PlannedChange[PauseChange]:
    stored = state.control(Pause)
    old = stored.record.as_of(new.at)
    if _order(old) == _order(new):
        answer = PauseChange(changed=False, detail=unchanged, pause=old)
        return PlannedChange(answer=answer, action=action, target="enforcement")
    undo = _pause_call(old) if old.paused else Call(method="POST", path="/v1/resume", body={})
    answer = PauseChange(changed=True, detail=detail, undo=undo, pause=new)
    return PlannedChange(answer=answer, writes=[state.put(new, over=stored)], action=action, target="enforcement")


def _order(pause: Pause) -> tuple[object, ...]:
    """Returns what was ordered, without who ordered it and when."""
    return (pause.paused, pause.released, pause.until, pause.comment) if pause.paused else (False,)


def _pause_call(pause: Pause) -> Call:
    """Returns the call that orders ``pause`` again. What it does not have is left out, as earlier versions expect."""
    body: dict[str, Any] = {"release": pause.release}
    body |= {"until": pause.until} if pause.until else {}
    body |= {"comment": pause.comment} if pause.comment else {}
    return Call(method="POST", path="/v1/pause", body=body)
