"""Failures of calls to AWS: every call of a command fails once, and the command is run again until none fails."""

import json
from collections import Counter
from collections.abc import Callable
from itertools import cycle
from typing import Any

from sluice.deploy.account import AwsError

Failure = tuple[int, str, str]
"""Status, code and message of a refusal."""

REFUSED: Failure = (403, "AccessDeniedException", "not authorized")
THROTTLED: Failure = (400, "ThrottlingException", "Rate exceeded")
"""A throttle that outlasts botocore's own retries, which the tests' hooks precede."""

MOST_CALLS = 200
"""More than any command makes."""

CHANGING = (
    "LockToken",
    "IfMatch",
    "Value",
    "ClientToken",
    "ClientRequestToken",
    "ChangeSetName",
    "StackName",
    "StatementId",
)
"""Parameters that differ when a call is repeated."""


class Interrupted(Exception):
    """The connection broke, or the operator pressed Ctrl-C."""


class Mishaps:
    """Fails each write and each kind of read once: interrupted, refused and throttled in turn.

    A refusal or a throttle lasts until ``begin``, whatever the parameters: permissions are those of an operation.
    ``alike``: the largest number of writes that fail for each operation; one loop makes the others just so.
    """

    def __init__(self, alike: int) -> None:
        self._alike = alike
        self.count = 0
        self.failing = ""
        """The operation that fails in this run; empty if nothing has failed."""
        self._failure: Failure | None = None
        self._met: set[str] = set()
        self._failed: Counter[str] = Counter()
        self._failures = cycle((None, REFUSED, THROTTLED))

    def begin(self) -> None:
        """Begins a run, in which one more call fails."""
        self.failing, self._failure = "", None

    def of(self, operation: str, call: str) -> Failure | None:
        """Returns how a call fails; None if it succeeds. Raises Interrupted."""
        if operation == self.failing:
            return self._failure
        if self.failing or call in self._met or self._failed[operation] == self._alike:
            return None
        self._met.add(call)
        self._failed[operation] += 1
        self.count += 1
        self.failing, self._failure = operation, next(self._failures)
        if self._failure is None:
            raise Interrupted(operation)
        return self._failure


def call_id(operation: str, parameters: dict[str, Any]) -> str:
    """Returns what identifies a write when it is repeated."""
    kept = {name: value for name, value in parameters.items() if name not in CHANGING}
    return json.dumps([operation, kept], sort_keys=True, default=str)


def outlasted(front: Any, run: Callable[[], object], alike: int = MOST_CALLS) -> int:
    """Runs ``run`` again until no call fails any more. Returns the number of calls that have failed."""
    mishaps = front.mishaps = Mishaps(alike)
    while True:
        mishaps.begin()
        try:
            run()
        except (Interrupted, AwsError):
            if not mishaps.failing:
                raise
        if not mishaps.failing:
            front.mishaps = None
            return mishaps.count
        assert mishaps.count < MOST_CALLS, mishaps.failing
