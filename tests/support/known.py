"""Clients that a state table remembers from the days before."""

from collections.abc import Iterable

from chalicelib.core.addresses import parse_network
from chalicelib.core.known_clients import PERIOD_S, Digest, known_record, period_of
from chalicelib.core.state.breakers import Known
from chalicelib.pipeline.stored import State
from chalicelib.ports import StateStore

DAY = 86400


def remember(store: StateStore, networks: Iterable[str], now: int, *, days_ago: float = 1) -> Known:
    """Stores that the first addresses of ``networks`` were counted some days before ``now``."""
    counted_at = int(now - days_ago * DAY)
    digest = Digest().plus(parse_network(network).network_address.packed for network in networks)
    record = known_record(period_of(counted_at), counted_at, digest)
    assert period_of(counted_at) + 2 * PERIOD_S <= now, "known by now"
    State(store).overwrite(record)
    return record
