"""No adversary achieves more of any goal than what is stated; and the games are lost where a defence is missing."""

from random import Random

import pytest

from chalicelib.core.addresses import parse_network
from sluice.demo.actors import Request, log_line
from sluice.local import cloud
from tests.adversary import game
from tests.adversary.game import Game
from tests.adversary.search import GOALS, described, exceeded, improved
from tests.adversary.tactics import MOST_RATE, TACTICS, Adversary, Tactic
from tests.support.known import remember

pytestmark = pytest.mark.slow

FLOOD = TACTICS["floods"]


@pytest.fixture(scope="session", autouse=True)
def _compared_with() -> None:
    game.dollars_without()  # is remembered, and belongs to the game with all defences


@pytest.mark.parametrize("tactic", [pytest.param(tactic, id=name) for name, tactic in TACTICS.items()])
def test_no_tactic_achieves_more_than_is_stated(tactic: Tactic) -> None:
    score = Game(tactic).play()
    assert exceeded(score) == [], score


def test_an_attacker_who_does_not_stop_is_refused_nearly_always() -> None:
    assert Game(FLOOD).play().served < 0.06


# Without one of the defences, the score shows it.


def test_an_edge_that_does_not_refuse_is_a_gain() -> None:
    assert "gain" in exceeded(Game(FLOOD, edge_s=1000).play())


def test_a_guilty_network_in_which_nobody_is_spared_has_victims() -> None:
    rules = game.RULES.replace("[networks]", "[networks]\ninnocents = 1000")
    assert "victims" in exceeded(Game(TACTICS["attacks beside its victims"], rules).play())


def test_an_id_that_the_client_chooses_hides_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    def same_id(request: Request, at: float, status: int, _number: int) -> bytes:
        return log_line(request, at, status, 0)

    monkeypatch.setattr(game, "log_line", same_id)
    assert "hidden" in exceeded(Game(FLOOD).play())


def test_a_pipeline_that_is_kept_busy_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud, "POLL_S", 10.0)
    assert "slowest_s" in exceeded(Game(FLOOD).play())


def test_an_offence_under_each_of_twenty_rules_costs_more() -> None:
    _, burst, login = game.RULES.split("[[rule]]")
    rules = [burst, login, *(burst.replace("burst", f"burst-{number}") for number in range(20))]
    score = Game(TACTICS["one burst per client, then the next"], "[[rule]]".join(["", *rules])).play()
    assert exceeded(score) == ["dollars"], score


def test_clients_known_from_the_days_before_can_stop_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the one goal that an adversary with patience can reach; the threat model says what it costs."""
    patient = TACTICS["one burst per client, then the next"]
    ahead = Adversary(patient)
    known = {f"{request.address}/32" for tick in range(1000) for request in ahead.requests(tick / 10, (tick + 1) / 10)}
    assert len({parse_network(network) for network in known}) == patient.clients

    monkeypatch.setattr(game, "remember", lambda store, networks, now: remember(store, {*networks, *known}, now))
    assert "stopped" in exceeded(Game(patient).play())


# The adversary and the search


def test_an_adversary_stays_within_its_budget() -> None:
    greedy = Adversary(Tactic(clients=1000, active=1000))
    made = [request for tick in range(100) for request in greedy.requests(tick / 10, (tick + 1) / 10)]
    assert len(made) == 10 * MOST_RATE
    assert len({request.address for request in made}) <= 64


def test_a_client_that_was_refused_rests_and_the_next_takes_its_turn() -> None:
    adversary = Adversary(Tactic(clients=2, rest_s=5))
    (first,) = {request.address for request in adversary.requests(0, 1)}
    adversary.refused([first], 1)
    (second,) = {request.address for request in adversary.requests(1, 2)}
    adversary.refused([second], 2)
    assert second != first
    assert not list(adversary.requests(2, 3))
    assert {request.address for request in adversary.requests(6.5, 7)} == {first}


def test_a_search_finds_more_than_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter((0.1, 0.3, 0.2, 0.1, 0.4, 0.2))
    played: list[Tactic] = []

    class Scored:
        def __init__(self, tactic: Tactic) -> None:
            played.append(tactic)

        def play(self) -> game.Score:
            return game.Score(
                served=0, gain=next(scores), guesses=0, victims=0, hidden=0, slowest_s=0, stopped=(), dollars=0
            )

    monkeypatch.setattr("tests.adversary.search.Game", Scored)
    better = [GOALS["gain"](score) for _, score in improved("gain", 6, Random(1))]
    assert better == [0.1, 0.3, 0.4]
    assert all(tactic in TACTICS.values() for tactic in played[:4])
    assert played[4] not in TACTICS.values()
    assert described(Tactic(rate=2.0)) == "rate=2.0"
