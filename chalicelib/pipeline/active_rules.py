"""The active rule set, read from the state table and cached. In place of an invalid one, the last valid one is used."""

from contextlib import suppress
from typing import NamedTuple

from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_toml import RulesError, parse_rules
from chalicelib.core.state.records import Unreadable
from chalicelib.core.state.rule_sets import ACTIVE, StoredRules
from chalicelib.pipeline.stored import State
from chalicelib.ports import Unavailable

CACHED_MS = 10_000
"""Milliseconds for which a rule set is used before it is read again."""

VERSIONS_TRIED = 10
"""Most earlier versions read in search of a valid one."""


class RulesInUse(NamedTuple):
    """The rule set that a container uses at one moment."""

    rules: RuleSet
    """Empty if no valid rule set was found among the stored one and the last ``VERSIONS_TRIED`` versions."""
    problem: str | None = None
    """Reason why ``rules`` are not the stored ones; None if they are."""


class ActiveRules:
    """One container's copy of the rules."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._rules: RuleSet | None = None
        self._problem: str | None = None
        self._text: str | None = None
        """Text that was parsed last, valid or not."""
        self._invalid: str | None = None
        """Reason why it is not valid; None if it is."""
        self._read_at_ms = 0

    def at(self, now_ms: int) -> RulesInUse:
        """Returns the rules to use. Raises Unavailable if the state table cannot be read and no rules are cached."""
        if self._rules is None or now_ms - self._read_at_ms >= CACHED_MS:
            self._problem = self._read(now_ms)
        return RulesInUse(self._rules or RuleSet(()), self._problem)

    def _read(self, now_ms: int) -> str | None:
        """Reads the stored rule set. Returns the reason why it cannot be used, or None."""
        try:
            stored = self._state.find(StoredRules, ACTIVE)
        except Unavailable as exc:
            if self._rules is None:
                raise
            return f"the state table cannot be read: {exc}"
        self._read_at_ms = now_ms
        if stored is None:
            return "no rule set is stored; 'sluice setup' stores one"
        if isinstance(stored, Unreadable):
            self._rules = self._rules or self._last_valid()
            return f"the stored rule set cannot be read: {stored.reason}"
        text = stored.record.text
        if text != self._text:
            try:
                self._rules, self._invalid = parse_rules(text, version=str(stored.version)), None
            except RulesError as exc:
                self._rules = self._rules or self._last_valid()
                self._invalid = f"the stored rule set is not valid: {exc.problems[0]}"
            self._text = text
        return self._invalid

    def _last_valid(self) -> RuleSet | None:
        """Returns the newest version of the rule set that is valid, for a container that has used none yet."""
        for stored in self._state.all(StoredRules, below=ACTIVE, limit=VERSIONS_TRIED, descending=True):
            with suppress(RulesError):
                return parse_rules(stored.record.text, version=str(int(stored.id)))
        return None
