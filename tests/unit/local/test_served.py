"""The served clock follows the wall clock, catches up with it, and makes other threads' calls while it waits."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sluice.local.served import ServedClock


def test_a_clock_started_in_the_past_jumps_until_it_has_caught_up() -> None:
    start = time.time() - 3600
    clock = ServedClock(start)
    clock.wait_until(start + 1800)
    assert clock.now() == start + 1800
    clock.wait_until(time.time() + 0.01)
    assert clock.now() == pytest.approx(time.time(), abs=0.5)


def test_a_call_is_made_by_the_waiting_thread() -> None:
    clock = ServedClock()
    with ThreadPoolExecutor(1) as others:
        call = others.submit(clock.hand_over, threading.get_ident)
        while not call.done():
            clock.wait_until(clock.now() + 0.01)
    assert call.result() == threading.get_ident()


def test_an_error_is_raised_in_the_calling_thread() -> None:
    clock = ServedClock()
    with ThreadPoolExecutor(1) as others:
        call = others.submit(clock.hand_over, lambda: 1 // 0)
        while not call.done():
            clock.wait_until(clock.now() + 0.01)
    assert isinstance(call.exception(), ZeroDivisionError)


def test_a_late_loop_still_makes_calls() -> None:
    clock = ServedClock()
    with ThreadPoolExecutor(1) as others:
        call = others.submit(clock.hand_over, lambda: "answered")
        while not call.done():
            clock.wait_until(clock.now() - 1)
    assert call.result() == "answered"
