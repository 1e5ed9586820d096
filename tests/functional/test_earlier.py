"""The benchmarks' peer: what an earlier version takes, by its own code."""

from math import isnan

import pytest

from bench.earlier import COMMIT, PeerMissing, against_earlier, earlier


def test_the_earlier_version_is_measured_by_its_own_code_which_reads_every_block() -> None:
    try:
        few, many = (earlier("deciding", number) for number in (100, 1000))
    except PeerMissing as exc:
        pytest.skip(str(exc))
    assert many["reads_1"] > 5 * few["reads_1"] > 5


def test_a_clone_without_the_earlier_version_says_that_the_peer_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.earlier.COMMIT", "0" * 40)
    (figure,) = against_earlier("deciding", 10, {"reads_1": ("read units", 4.0)}, 0.1)
    assert isnan(figure.value)
    assert figure.as_row()["value"] is None
    assert figure.holds is None
    assert figure.how.startswith("the peer is missing")
    assert COMMIT not in figure.how
