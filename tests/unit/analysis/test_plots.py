"""Plots show every request that was counted."""

import numpy as np
import pytest

from sluice.analysis.plots import over_time

pytestmark = pytest.mark.slow  # matplotlib is imported


def test_over_time_draws_every_request_once() -> None:
    figure = over_time({0: 50, 1: 10, 9: 30}, {1: 10})
    (axes,) = figure.axes
    passed, refused = (stack.get_paths()[0] for stack in axes.collections)
    assert np.asarray(passed.vertices)[:, 1].max() == 5, "50 requests in ten seconds"
    assert refused.get_extents().y1 == 5, "on top of them: 10 refused in the next ten, none passed"


def test_a_few_requests_centuries_apart_are_drawn_quickly() -> None:
    (axes,) = over_time({1: 10, 9_999_999_999: 10}, {}).axes
    assert len(axes.collections) == 2
