"""The model of AWS WAF follows its documentation."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.analysis.aws_waf_model import CHECK_S, RateBasedRule, refused_spans


@pytest.mark.slow
@given(
    st.dictionaries(st.integers(0, 300), st.integers(1, 6), min_size=1, max_size=40),
    st.integers(10, 30),
    st.sampled_from([30, 50]),
)
@settings(max_examples=150, deadline=None)
def test_the_model_follows_the_documentation(seconds: dict[int, int], limit: int, lag_s: int) -> None:
    rule = RateBasedRule(limit, 60)
    spans = refused_spans(seconds, rule, lag_s)
    for second in range(500):
        # The outcome in force is that of the latest check at least ``lag_s`` ago.
        check = (second - lag_s) // CHECK_S * CHECK_S
        seen = sum(number for at, number in seconds.items() if check - 60 <= at < check)
        assert any(since <= second < until for since, until in spans) == (seen > limit)
