"""``core.meter_tally``: columns answer what a dictionary of dictionaries does."""

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import FEW, BadTally, Clients, MeterTally, pack_integers, unpack_integers
from chalicelib.core.rules import Rule

METER = Rule(name="r", limit=1, window_s=10).meter
few_bytes = st.sampled_from([0, 1, 255])
keys = st.one_of(
    st.lists(few_bytes, min_size=4, max_size=4).map(bytes),
    st.lists(few_bytes, min_size=16, max_size=16).map(bytes),
)
"""Keys of which parts look like other keys."""
counts = st.dictionaries(
    keys,
    st.dictionaries(st.integers(0, 1 << 40), st.integers(1, 1 << 33), min_size=1, max_size=3),
    min_size=1,
    max_size=2 * FEW,
)


def tally_of(clients: Clients) -> MeterTally:
    return MeterTally.of(Source.WAF, METER, clients)


@given(clients=counts)
def test_the_columns_hold_every_count(clients: Clients) -> None:
    tally = tally_of(clients)
    entries = [(client, slot, n) for client, slots in clients.items() for slot, n in slots.items()]
    order = tally.keys()
    assert tally.clients() == clients
    assert tally.entries == len(entries)
    assert sorted(zip(tally.by_entry(order), tally.slots(), tally.requests(), strict=True)) == sorted(entries)
    assert dict(zip(order, tally.totals(), strict=True)) == {c: sum(slots.values()) for c, slots in clients.items()}
    assert dict(zip(order, tally.slots_per_key(), strict=True)) == {c: len(slots) for c, slots in clients.items()}


@pytest.mark.parametrize("number", [1, 63, 64, 65, 128, 200])
@pytest.mark.parametrize("size", [4, 16])
def test_the_columns_hold_any_number_of_clients(number: int, size: int) -> None:
    clients: Clients = {each.to_bytes(size, "big"): {each: 1, each + 7: 1} for each in range(number)}
    tally = tally_of(clients)
    assert tally.keys() == list(clients)
    assert list(tally.totals()) == [2] * number
    odd = tally.select([bool(each % 2) for each in range(number)])
    assert odd.clients() == dict(list(clients.items())[1::2])


@given(clients=counts, others=st.sets(keys, max_size=3), data=st.data())
def test_slots_are_found_for_the_clients_that_are_there(
    clients: Clients, others: set[bytes], data: st.DataObject
) -> None:
    wanted = data.draw(st.sets(st.sampled_from(sorted(clients)))) | others
    assert tally_of(clients).slots_of(wanted) == {client: clients[client] for client in wanted if client in clients}


@given(clients=counts, data=st.data())
def test_a_selection_holds_the_selected_clients_alone(clients: Clients, data: st.DataObject) -> None:
    tally = tally_of(clients)
    keep = data.draw(st.lists(st.booleans(), min_size=len(clients), max_size=len(clients)))
    selected = tally.select(keep)
    selected.check()
    assert selected.clients() == {c: clients[c] for c, kept in zip(tally.keys(), keep, strict=True) if kept}


@given(values=st.lists(st.integers(0, (1 << 64) - 1)))
def test_integers_unpack_to_themselves(values: list[int]) -> None:
    assert list(unpack_integers(pack_integers(values))) == values


@pytest.mark.parametrize(
    "column",
    [{"keys4": b"abc"}, {"keys16": b"x" * 16}, {"per_key": b"B\x02"}, {"offsets": b"B"}, {"counts": b"B\x01\x01"}],
)
def test_columns_that_do_not_fit_together_are_rejected(column: dict[str, bytes]) -> None:
    tally = tally_of({b"abcd": {7: 1}})
    with pytest.raises(BadTally, match="do not fit together"):
        replace(tally, **column).check()
    assert list(chain(*tally.clients().values())) == [7]
