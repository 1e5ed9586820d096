"""Sampling: only CloudFront's real-time log, and only limits that the sample can tell."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import LARGEST_LIMIT, Action, Rule
from chalicelib.core.sampling import FEWEST_LOGGED, WHOLE_LOG, Sampling, sampling_notes

RULE = Rule(name="login", limit=10, window_s=60)
percentages = st.integers(1, 100)


@given(percent=percentages)
def test_only_cloudfronts_real_time_log_is_sampled(percent: int) -> None:
    sampled = {source for source in Source if Sampling(percent).of(source) != WHOLE_LOG}
    assert sampled == ({Source.CLOUDFRONT} if percent < 100 else set())


@given(percent=percentages, logged=st.integers(0, 10**6), limit=st.integers(0, LARGEST_LIMIT))
def test_a_count_is_over_the_limit_if_and_only_if_its_estimate_is(percent: int, logged: int, limit: int) -> None:
    sampling = Sampling(percent)
    assert (logged > sampling.logged(limit)) == (logged * 100 > limit * percent)
    assert WHOLE_LOG.made(logged) == WHOLE_LOG.logged(logged) == logged


@given(percent=percentages, limit=st.integers(0, 5000))
def test_a_rule_only_counts_where_its_limit_is_too_few_logged_requests(percent: int, limit: int) -> None:
    rule = replace(RULE, limit=limit)
    tells = percent == 100 or limit == 0 or limit * percent >= FEWEST_LOGGED * 100
    assert Sampling(percent).applied(rule) == replace(rule, action=Action.BLOCK if tells else Action.COUNT)
    assert len(list(sampling_notes([rule], Sampling(percent)))) == (not tells)
    assert not list(sampling_notes([replace(rule, action=Action.COUNT)], Sampling(percent)))


def test_a_note_names_the_rule_the_limit_and_the_least_that_would_do() -> None:
    (note,) = sampling_notes([RULE], Sampling(3))
    assert "Rule login only counts" in note
    assert "3 %, a limit of 10 is 0 logged requests" in note
    assert "to 334 or more" in note
    assert Sampling(3).shows(334)
    assert not Sampling(3).shows(333)
