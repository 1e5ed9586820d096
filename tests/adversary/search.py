"""The search for a tactic that achieves more: the best ones so far are varied, and what achieves more is kept."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from random import Random
from typing import Any

from tests.adversary.game import Game, Score
from tests.adversary.tactics import MOST_CLIENTS, MOST_RATE, TACTICS, Tactic

GOALS: Mapping[str, Callable[[Score], float]] = {
    "gain": lambda score: score.gain,
    "guesses": lambda score: score.guesses,
    "victims": lambda score: score.victims,
    "hidden": lambda score: score.hidden,
    "slowest_s": lambda score: score.slowest_s,
    "stopped": lambda score: len(score.stopped),
    "dollars": lambda score: score.dollars,
}

MOST = {
    "gain": 1.0,
    "guesses": 5 + 4 * MOST_RATE,
    "victims": 0,
    "hidden": 0,
    "slowest_s": 5.0,
    "stopped": 0,
    "dollars": 0.05,
}
"""The most that an adversary may achieve of each goal. It is refused within four seconds."""

CHOICES: Mapping[str, tuple[Any, ...]] = {
    "clients": (1, 2, 3, 4, 8, 16, 32, MOST_CLIENTS),
    "active": (1, 2, 4, 8, 16, MOST_CLIENTS),
    "burst": (1, 2, 5, 6, 10, 19, 20, 21, 22, 30, 40, 60, 100, 1_000_000),
    "rate": (0.1, 0.5, 1.0, 2.0, 4.0, 4.1, 5.0, 8.0, 10.0, 20.0, MOST_RATE),
    "pause_s": (0.0, 0.5, 1.0, 2.5, 4.0, 4.9, 5.0, 5.1, 10.0, 20.0, 30.0, 58.0, 60.0, 62.0, 65.0),
    "rest_s": (None, 0.5, 1.0, 2.0, 5.0, 30.0, 55.0, 58.0, 60.0, 61.0, 62.0, 65.0, 1000.0),
    "turn": (0, 1, 2, 3),
    "place": ("scattered", "one /64", "one /48", "beside visitors"),
    "target": ("pages", "login", "new paths", "long paths", "victims' names"),
}
"""Values that matter for the rules of the game: about a limit, a window, or the time of a block."""

PARENTS = 4


def exceeded(score: Score) -> list[str]:
    """Returns the goals of which more has been achieved than may be."""
    return [goal for goal, achieved in GOALS.items() if achieved(score) > MOST[goal]]


def improved(goal: str, games: int, random: Random) -> Iterator[tuple[Tactic, Score]]:
    """Plays ``games`` games for ``goal``; yields each tactic that achieves more than all before it.

    Begins with one of ``TACTICS``, chosen by ``random``.
    """
    best: list[tuple[float, int, Tactic]] = []
    for number in range(games):
        tactic = random.choice([*TACTICS.values()]) if number < PARENTS else varied(random.choice(best)[2], random)
        score = Game(tactic).play()
        achieved = GOALS[goal](score)
        if not best or achieved > best[0][0]:
            yield tactic, score
        best = sorted([*best, (achieved, number, tactic)], key=lambda each: each[:2], reverse=True)[:PARENTS]


def varied(tactic: Tactic, random: Random) -> Tactic:
    """Returns the tactic with one to three of its choices made anew."""
    changes = {name: random.choice(CHOICES[name]) for name in random.sample(sorted(CHOICES), random.randint(1, 3))}
    return replace(tactic, **changes)


def described(tactic: Tactic) -> str:
    """Returns the choices that differ from a flood by one client."""
    usual = asdict(Tactic())
    choices = {name: value for name, value in asdict(tactic).items() if value != usual[name]}
    return ", ".join(f"{name}={value!r}" for name, value in choices.items()) or "a flood"
