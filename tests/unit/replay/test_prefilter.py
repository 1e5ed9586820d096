"""The prefilter lets every offender through."""

from sluice.replay.prefilter import Groups, Totals


def test_very_many_clients_share_totals_and_no_offender_is_lost() -> None:
    totals = Totals(most_groups=10)
    groups = [n.to_bytes(4, "big") for n in range(100)]
    busy = groups[::7]
    totals.add(groups)
    totals.add(busy)
    totals.add(groups[:5])
    assert all((totals.above(1) | Groups(())).flags(busy))
    assert not any(totals.above(3).flags(groups[5:])), "there are enough buckets to keep a hundred groups apart"
