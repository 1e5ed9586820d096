"""The local cloud's bell: a ring is answered at the next tick."""

from sluice.local.loop import Bell, Loop, SimulatedClock


def rings(*moments: float, takes: float = 0.0, again: int = 0) -> list[float]:
    """Returns when a bell with one tick per second answers rings at ``moments``."""
    loop = Loop(SimulatedClock(0))
    answered: list[float] = []

    def answer() -> bool:
        answered.append(loop.clock.now())
        loop.sleep(takes)
        return len(answered) <= again

    bell = Bell(loop, 1.0, answer, first=0.25)
    for moment in moments:
        loop.at(moment, bell.ring)
    loop.run(60)
    return answered


def test_a_ring_is_answered_at_the_next_tick() -> None:
    assert rings() == []
    assert rings(0.5) == [1.25]
    assert rings(0.5, 0.6, 1.0, 9.0) == [1.25, 9.25]


def test_a_call_is_repeated_while_there_is_more_to_do() -> None:
    assert rings(0.5, again=2) == [1.25, 2.25, 3.25]


def test_a_ring_during_a_call_causes_another_call() -> None:
    assert rings(0.5, 2.0, takes=3.0) == [1.25, 5.25]
    assert rings(0.5, 2.0, 3.0, 6.0, takes=3.0) == [1.25, 5.25, 9.25]
