"""The local cloud's bell: whoever rings is answered, at the next tick."""

from sluice.local.loop import Bell, Loop, SimulatedClock


def rings(*moments: float, takes: float = 0.0, again: int = 0) -> list[float]:
    """When a bell with a tick a second is answered that is rung at ``moments``."""
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


def test_it_is_answered_at_the_next_tick_and_only_if_rung() -> None:
    assert rings() == []
    assert rings(0.5) == [1.25]
    assert rings(0.5, 0.6, 1.0, 9.0) == [1.25, 9.25]


def test_it_is_answered_again_if_there_is_more_to_do() -> None:
    assert rings(0.5, again=2) == [1.25, 2.25, 3.25]


def test_a_ring_while_it_is_being_answered_is_heard() -> None:
    assert rings(0.5, 2.0, takes=3.0) == [1.25, 5.25]
    assert rings(0.5, 2.0, 3.0, 6.0, takes=3.0) == [1.25, 5.25, 9.25]
