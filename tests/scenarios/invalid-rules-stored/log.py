"""A visitor throughout, and an offender long after the rules became invalid."""

from collections.abc import Iterator

from chalicelib.core.state.rule_sets import ACTIVE, StoredRules
from chalicelib.ports import Item
from sluice.local.cloud import LocalCloud
from tests.support.scenario_lines import START, Arrival, request


def arrivals() -> Iterator[Arrival]:
    for number in range(59):
        yield request(number, "198.51.100.7")
    yield request(55, "203.0.113.9", cs_uri_stem="/wp-admin/setup.php")


def happen(cloud: LocalCloud) -> None:
    def save_invalid() -> None:
        rules = StoredRules(text="[[rule]]\nname = 'honeypot'\nlimt = 0\n", by="operator", saved_at=START + 20)
        cloud.state.put_over([Item(kind=StoredRules.kind, id=ACTIVE, body=rules.to_json(), version=1)])

    cloud.loop.at(START + 20, save_invalid)
