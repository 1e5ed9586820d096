"""Announcements as events of an EventBridge bus.

Source: Amazon EventBridge API Reference, "PutEvents": at most 10 entries and 1 MB in a call, some of which may fail.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

import msgspec

from chalicelib.core.announcements import SOURCE, Announcement
from chalicelib.edges.errors import translated
from chalicelib.ports import Unavailable

EventsClient = Any
"""A client of boto3's ``events``, for which no stubs are installed."""

ENTRIES_PER_CALL = 10


class EventBus:
    """``Announcements`` through EventBridge."""

    def __init__(self, client: Callable[[], EventsClient], bus: str) -> None:
        """``client`` creates the client when it is first needed. ``bus``: name or ARN."""
        self._make_client = client
        self._bus = bus

    @cached_property
    def _client(self) -> EventsClient:
        return self._make_client()

    def send(self, announcements: Sequence[Announcement]) -> None:
        """Sends each as an event whose detail type is its type. Raises Unavailable for the first call that fails."""
        for start in range(0, len(announcements), ENTRIES_PER_CALL):
            entries = [self._entry(each) for each in announcements[start : start + ENTRIES_PER_CALL]]
            with translated(f"send events to {self._bus}"):
                answer = self._client.put_events(Entries=entries)
            if answer["FailedEntryCount"]:
                codes = sorted({entry["ErrorCode"] for entry in answer["Entries"] if "ErrorCode" in entry})
                raise Unavailable(f"send events to {self._bus}: {', '.join(codes)}")

    def _entry(self, announcement: Announcement) -> dict[str, Any]:
        return {
            "Source": SOURCE,
            "DetailType": announcement.type,
            "Detail": msgspec.json.encode(announcement).decode(),
            "EventBusName": self._bus,
            "Time": datetime.fromisoformat(announcement.at),
        }
