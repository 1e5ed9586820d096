"""Announcements for a command on this machine: ``--notify exec:COMMAND`` of ``sluice dev`` and the demo."""

import subprocess
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Thread

import msgspec

from chalicelib.core.announcements import Announcement

TIMEOUT_S = 10.0
STANDARD_ERROR = 2
"""File descriptor of the standard error output."""


class CommandedAnnouncements:
    """``Announcements`` that runs a command for each, one after the other, beside the local cloud.

    The command reads the announcement as JSON from its standard input. Its output goes to standard error.
    """

    def __init__(self, words: Sequence[str], complain: Callable[[str], object]) -> None:
        """``words``: the command and its arguments. ``complain`` gets the first failure, in words."""
        self._words = words
        self._complain = complain
        self._failed = False
        self._waiting: SimpleQueue[Announcement | None] = SimpleQueue()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def send(self, announcements: Sequence[Announcement]) -> None:
        for each in announcements:
            self._waiting.put(each)

    def close(self) -> None:
        """Waits until the command has run for everything that was sent."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (announcement := self._waiting.get()) is not None:
            problem = self._tell(announcement)
            if problem and not self._failed:
                self._failed = True
                self._complain(f"--notify exec:{' '.join(self._words)}: {problem}")

    def _tell(self, announcement: Announcement) -> str:
        """Runs the command. Returns what went wrong, or an empty text."""
        try:
            ended = subprocess.run(  # noqa: S603 - the operator's own command
                self._words,
                input=msgspec.json.encode(announcement),
                stdout=STANDARD_ERROR,
                timeout=TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            return str(exc)
        return f"exit status {ended.returncode}" if ended.returncode else ""
