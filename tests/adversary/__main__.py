"""``python -m tests.adversary``: plays the known tactics, or searches for better ones."""

import sys
from random import Random

import click

from tests.adversary.game import Game, Score
from tests.adversary.search import GOALS, described, exceeded, improved
from tests.adversary.tactics import TACTICS


@click.command(context_settings={"show_default": True})
@click.option("--search", "games", default=0, type=click.IntRange(min=0), help="Games to play in search of each goal.")
@click.option("--seed", default=0, help="Seed of the search.")
def main(games: int, seed: int) -> None:
    """Play an adversary's tactics against the whole pipeline. The exit status is 1 if one achieves too much."""
    too_much = False
    for name, tactic in {} if games else TACTICS.items():
        score = Game(tactic).play()
        too_much |= bool(exceeded(score))
        click.echo(f"| {name} | {told(score)} |")
    for goal in GOALS if games else ():
        click.echo(f"{goal}:")
        for better, score in improved(goal, games, Random(f"{seed} {goal}")):
            too_much |= bool(exceeded(score))
            click.echo(f"  {told(score)}: {described(better)}")
    sys.exit(too_much)


def told(score: Score) -> str:
    return (
        f"{score.served:.1%} | {score.gain:.2f} | {score.guesses} | {score.victims} | {score.hidden} | "
        f"{score.slowest_s:.1f} s | {len(score.stopped)} | ${score.dollars:.3f}"
    )


if __name__ == "__main__":
    main()
