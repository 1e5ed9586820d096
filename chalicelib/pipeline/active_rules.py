"""The active rule set, read from the state table and cached. An invalid one does not replace the last valid one."""

from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_toml import RulesError, parse_rules
from chalicelib.core.state import ACTIVE, StoredRules
from chalicelib.pipeline.stored import State
from chalicelib.ports import Unavailable

CACHED_MS = 10_000
"""Milliseconds for which a rule set is used before it is read again."""


class ActiveRules:
    """One container's copy of the rules."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._rules: RuleSet | None = None
        self._text: str | None = None
        self._read_at_ms = 0
        self.problem: str | None = None
        """Reason why the stored rule set is not in use; None if it is."""

    def __call__(self, now_ms: int) -> RuleSet:
        """Returns the active rules; none, with a ``problem``, if no valid rule set was ever stored.

        Raises Unavailable only if the state table cannot be read and no rules are cached.
        """
        if self._rules is None or now_ms - self._read_at_ms >= CACHED_MS:
            self._read(now_ms)
        return self._rules or RuleSet(())

    def _read(self, now_ms: int) -> None:
        try:
            stored = self._state.get(StoredRules, ACTIVE)
        except Unavailable as exc:
            if self._rules is None:
                raise
            self.problem = f"the state table cannot be read: {exc}"
            return
        self._read_at_ms = now_ms
        if stored is None:
            self.problem = "no rule set is stored; 'sluice setup' stores one"
            return
        text = stored.record.text
        if text == self._text and self._rules is not None:
            self.problem = None if self._rules.text == text else self.problem
            return
        self._text = text
        try:
            self._rules = parse_rules(text, version=str(stored.version))
            self.problem = None
        except RulesError as exc:
            self.problem = f"the stored rule set is not valid: {exc.problems[0]}"
