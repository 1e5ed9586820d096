"""The active rules: how long they are used, and which are used while those stored are not valid."""

from typing import Any

import pytest

from chalicelib.core.state.rule_sets import ACTIVE, StoredRules
from chalicelib.pipeline.active_rules import CACHED_MS, VERSIONS_TRIED, ActiveRules
from chalicelib.pipeline.stored import State
from chalicelib.ports import Item, Unavailable
from sluice.local.stores import MemoryStateStore

NOW = 1_760_000_000_000
INVALID = '[[rule]]\nname = "broken"\nlimit = -1\n'


def text(name: str) -> str:
    return f'[[rule]]\nname = "{name}"\nlimit = 2\nwindow = "10s"\n'


class Store(MemoryStateStore):
    def __init__(self) -> None:
        super().__init__()
        self.reads = self.queried = 0
        self.available = True

    def get(self, kind: str, id: str) -> Item | None:
        self.reads += 1
        if not self.available:
            raise Unavailable("the state table")
        return super().get(kind, id)

    def query(self, kind: str, **bounds: Any) -> Any:
        self.reads += 1
        for item in super().query(kind, **bounds):
            self.queried += 1
            yield item


class Versions:
    """The rule sets that operators store: each as the active one, and under its own version."""

    def __init__(self, store: Store) -> None:
        self._state = State(store)
        self._number = 0

    def store(self, toml: str) -> None:
        self._number += 1
        stored = StoredRules(text=toml, by="operator", saved_at=NOW // 1000 + self._number)
        self._state.write(
            [
                State.put(stored, id=ACTIVE, over=self._state.get(StoredRules, ACTIVE)),
                State.put(stored, id=f"{self._number:010d}"),
            ]
        )

    def damage(self, toml: str) -> None:
        """Replaces the active rule set past the admin API, so that no version of it is kept."""
        current = self._state.get(StoredRules, ACTIVE)
        self._state.write([State.put(StoredRules(text=toml, by="console", saved_at=0), id=ACTIVE, over=current)])


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def versions(store: Store) -> Versions:
    return Versions(store)


def names(rules: ActiveRules, now: int = NOW) -> list[str]:
    return [rule.name for rule in rules.at(now).rules.rules]


def test_the_stored_rules_are_used_under_their_version(store: Store, versions: Versions) -> None:
    for name in ("first", "second"):
        versions.store(text(name))
    in_use = ActiveRules(State(store)).at(NOW)
    assert [rule.name for rule in in_use.rules.rules] == ["second"]
    assert (in_use.rules.version, in_use.problem) == ("2", None)


def test_rules_are_read_again_after_ten_seconds(store: Store, versions: Versions) -> None:
    versions.store(text("first"))
    rules = ActiveRules(State(store))
    rules.at(NOW)
    versions.store(text("second"))
    store.reads = 0
    assert names(rules, NOW + CACHED_MS - 1) == ["first"]
    assert store.reads == 0
    assert names(rules, NOW + CACHED_MS) == ["second"]
    assert CACHED_MS == 10_000


def test_no_rules_are_used_before_any_are_stored(store: Store) -> None:
    in_use = ActiveRules(State(store)).at(NOW)
    assert in_use.rules.rules == ()
    assert in_use.problem == "no rule set is stored; 'sluice setup' stores one"


def test_cached_rules_are_used_while_the_table_cannot_be_read(store: Store, versions: Versions) -> None:
    versions.store(text("first"))
    rules = ActiveRules(State(store))
    rules.at(NOW)
    store.available = False
    in_use = rules.at(NOW + CACHED_MS)
    assert [rule.name for rule in in_use.rules.rules] == ["first"]
    assert in_use.problem == "the state table cannot be read: the state table"
    store.available = True
    assert rules.at(NOW + CACHED_MS + 1).problem is None, "and the table is tried each time"


def test_a_cold_container_without_a_table_fails(store: Store, versions: Versions) -> None:
    versions.store(text("first"))
    store.available = False
    with pytest.raises(Unavailable):
        ActiveRules(State(store)).at(NOW)


def test_an_invalid_rule_set_does_not_replace_the_one_in_use(store: Store, versions: Versions) -> None:
    versions.store(text("first"))
    rules = ActiveRules(State(store))
    rules.at(NOW)
    versions.damage(INVALID)
    for now in (NOW + CACHED_MS, NOW + CACHED_MS + 1, NOW + 2 * CACHED_MS):
        in_use = rules.at(now)
        assert [rule.name for rule in in_use.rules.rules] == ["first"]
        assert in_use.problem is not None
        assert in_use.problem.startswith("the stored rule set is not valid: ")


def test_an_invalid_rule_set_is_still_the_problem_after_an_outage(store: Store, versions: Versions) -> None:
    versions.store(text("first"))
    versions.damage(INVALID)
    rules = ActiveRules(State(store))
    invalid = rules.at(NOW).problem
    store.available = False
    assert rules.at(NOW + CACHED_MS).problem != invalid
    store.available = True
    assert rules.at(NOW + 2 * CACHED_MS).problem == invalid


def test_a_valid_rule_set_replaces_an_invalid_one(store: Store, versions: Versions) -> None:
    versions.store(text("first"))
    versions.damage(INVALID)
    rules = ActiveRules(State(store))
    rules.at(NOW)
    versions.damage(text("third"))
    in_use = rules.at(NOW + CACHED_MS)
    assert ([rule.name for rule in in_use.rules.rules], in_use.problem) == (["third"], None)


def test_a_rule_set_that_is_valid_again_has_no_problem(store: Store, versions: Versions) -> None:
    versions.store(text("first"))
    rules = ActiveRules(State(store))
    rules.at(NOW)
    versions.damage(INVALID)
    rules.at(NOW + CACHED_MS)
    versions.damage(text("first"))
    in_use = rules.at(NOW + 2 * CACHED_MS)
    assert ([rule.name for rule in in_use.rules.rules], in_use.problem) == (["first"], None)


@pytest.mark.parametrize("invalid", [0, 1, VERSIONS_TRIED - 1])
def test_a_cold_container_uses_the_last_valid_version_in_place_of_an_invalid_one(
    store: Store, versions: Versions, invalid: int
) -> None:
    for toml in (text("first"), text("second"), *[INVALID] * invalid):
        versions.store(toml)
    versions.damage(INVALID)
    rules = ActiveRules(State(store))
    in_use = rules.at(NOW)
    assert [rule.name for rule in in_use.rules.rules] == ["second"]
    assert in_use.rules.version == "2"
    assert in_use.problem is not None
    assert in_use.problem.startswith("the stored rule set is not valid: ")
    store.queried = 0
    assert names(rules, NOW + CACHED_MS) == ["second"]
    assert store.queried == 0, "the versions are searched once"


def test_only_the_newest_versions_are_searched_for_a_valid_one(store: Store, versions: Versions) -> None:
    for toml in (text("first"), *[INVALID] * (VERSIONS_TRIED + 5)):
        versions.store(toml)
    in_use = ActiveRules(State(store)).at(NOW)
    assert in_use.rules.rules == ()
    assert in_use.problem is not None
    assert store.queried == VERSIONS_TRIED


def test_without_any_valid_version_no_rules_are_used(store: Store, versions: Versions) -> None:
    versions.store(INVALID)
    in_use = ActiveRules(State(store)).at(NOW)
    assert in_use.rules.rules == ()
    assert in_use.problem is not None


@pytest.mark.parametrize("body", [b"", b"{}", b'{"text":7}', b"not JSON"])
def test_a_rule_set_that_cannot_be_read_leaves_the_last_valid_one_in_use(store: Store, body: bytes) -> None:
    versions, warm = Versions(store), ActiveRules(State(store))
    versions.store(text("first"))
    assert warm.at(NOW).problem is None
    store.put_over([Item(kind=StoredRules.kind, id=ACTIVE, body=body, version=1)])
    store.put_over([Item(kind=StoredRules.kind, id=id, body=text("x").encode()) for id in ("0000000009", "000000001b")])
    for rules in (warm, ActiveRules(State(store))):
        in_use = rules.at(NOW + CACHED_MS)
        assert [rule.name for rule in in_use.rules.rules] == ["first"]
        assert in_use.problem is not None
        assert "the stored rule set cannot be read: " in in_use.problem
    versions.store(text("second"))
    assert [rule.name for rule in warm.at(NOW + 2 * CACHED_MS).rules.rules] == ["second"]
    assert warm.at(NOW + 2 * CACHED_MS).problem is None
