"""Every deliberate violation of a guarantee is noticed: see the table ``BREAKS``."""

import re
from collections.abc import Callable

import pytest

from tests.chaos.breaks import BREAKS, Break, the_bill, the_breaker


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: f"{broken.guarantee} {broken.what}")
def test_breaking_a_guarantee_is_noticed(broken: Break) -> None:
    with pytest.raises(Exception) as said:  # noqa: PT011 - a run may also end with what a use case raises
        broken.noticed_by()
    assert re.search(broken.complaint, str(said.value)), said.value


def test_every_guarantee_is_broken_by_at_least_one_entry() -> None:
    assert {each.guarantee for each in BREAKS} == {f"G{number}" for number in range(1, 10)}


@pytest.mark.parametrize("notices", [the_bill, the_breaker], ids=lambda notices: notices.__name__)
def test_the_checks_accept_the_code_as_it_is(notices: Callable[[], None]) -> None:
    notices()
