"""20 requests a second for a minute; after 20 seconds the rule is changed."""

from collections.abc import Iterator
from pathlib import Path

from chalicelib.core.state.rule_sets import ACTIVE, StoredRules
from chalicelib.ports import Item
from sluice.local.cloud import LocalCloud
from tests.support.scenario_lines import START, Arrival, request

RULES = (Path(__file__).parent / "rules.toml").read_text()


def arrivals() -> Iterator[Arrival]:
    for number in range(1200):
        yield request(number / 20, "203.0.113.9")


def happen(cloud: LocalCloud) -> None:
    def change() -> None:
        rules = StoredRules(text=RULES.replace('"count"', '"block"'), by="operator", saved_at=START + 20)
        cloud.state.put_over([Item(kind=StoredRules.kind, id=ACTIVE, body=rules.to_json(), version=1)])

    cloud.loop.at(START + 20, change)
