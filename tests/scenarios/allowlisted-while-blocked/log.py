"""Two offenders, one of which is allowlisted ten seconds later."""

from collections.abc import Iterator

from chalicelib.core.state.allowlist import Allow
from chalicelib.pipeline.stored import State
from sluice.local.cloud import LocalCloud
from tests.support.scenario_lines import START, Arrival, request


def arrivals() -> Iterator[Arrival]:
    for client in ("203.0.113.9", "203.0.113.11"):
        yield request(0, client, cs_uri_stem="/wp-admin/setup.php")


def happen(cloud: LocalCloud) -> None:
    def allow() -> None:
        assert len(cloud.waf.networks()) == 2
        entry = Allow(network="203.0.113.9/32", comment="a customer", by="operator", added_at=START + 10)
        State(cloud.state).overwrite(entry)

    cloud.loop.at(START + 10, allow)
