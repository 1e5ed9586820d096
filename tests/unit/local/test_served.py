"""The open clock keeps the wall's time, catches up with it, and works for other threads while it waits."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sluice.local.served import ServedClock


def test_a_clock_started_in_the_past_jumps_until_it_is_the_present():
    start = time.time() - 3600
    clock = ServedClock(start)
    clock.wait_until(start + 1800)
    assert clock.now() == start + 1800
    clock.wait_until(time.time() + 0.01)
    assert clock.now() == pytest.approx(time.time(), abs=0.5)


def test_a_call_is_made_by_the_thread_that_waits():
    clock = ServedClock()
    with ThreadPoolExecutor(1) as others:
        asked = others.submit(clock.hand_over, threading.get_ident)
        while not asked.done():
            clock.wait_until(clock.now() + 0.01)
    assert asked.result() == threading.get_ident()


def test_what_a_call_raises_is_raised_where_it_was_asked_for():
    clock = ServedClock()
    with ThreadPoolExecutor(1) as others:
        asked = others.submit(clock.hand_over, lambda: 1 // 0)
        while not asked.done():
            clock.wait_until(clock.now() + 0.01)
    assert isinstance(asked.exception(), ZeroDivisionError)


def test_a_loop_that_is_late_still_answers():
    clock = ServedClock()
    with ThreadPoolExecutor(1) as others:
        asked = others.submit(clock.hand_over, lambda: "answered")
        while not asked.done():
            clock.wait_until(clock.now() - 1)
    assert asked.result() == "answered"
