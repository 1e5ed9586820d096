import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.durations import UNITS, format_duration, parse_duration


@given(st.integers(0, 999_999_999), st.sampled_from(sorted(UNITS)))
def test_a_duration_is_formatted_in_its_shortest_form(number: int, unit: str) -> None:
    seconds = parse_duration(f"{number}{unit}")
    assert seconds == number * UNITS[unit]
    shortest = format_duration(seconds)
    assert int(shortest[:-1]) <= number
    if seconds < 10**9:
        assert parse_duration(shortest) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "10", 10, None, "10 s", " 10s", "10s ", "+1s", "1e3s", "1_0s", "9" * 10 + "s"]
)
def test_anything_else_is_rejected_with_the_value_and_the_accepted_form(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration; write a whole number and a unit, such as '10s'") as caught:
        parse_duration(text)
    assert str(caught.value).startswith(repr(text))
