"""The demo's screen shows what matters at every size, and its closing words say no more than its figures."""

from io import StringIO
from ipaddress import ip_address
from itertools import islice
from random import Random

import pytest
from rich.console import Console, RenderableType

from sluice.commands.demo import DEMO_RULES
from sluice.demo.actors import cast, public_addresses
from sluice.demo.demonstration import Demonstration
from sluice.demo.view import Screen, closing
from sluice.local.loop import SimulatedClock

STOPPED_S = 9.0


def text(shown: RenderableType, width: int, height: int = 100) -> str:
    out = StringIO()
    Console(file=out, width=width, height=height).print(shown)
    return out.getvalue()


@pytest.fixture(scope="module")
def stopped() -> tuple[Demonstration, Screen]:
    """Returns a demonstration that was stopped while a client is blocked."""
    demo = Demonstration(
        SimulatedClock(1_700_000_000), rules=DEMO_RULES.read_text(), seed=1, seconds=60, shards=1, containers=1
    )
    screen = Screen()

    def watch(demo: Demonstration) -> None:
        screen.draw(demo, 200, 50)
        if demo.elapsed >= STOPPED_S:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.run(watch)
    return demo, screen


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 15), (120, 30), (200, 50)])
def test_ip_sets_and_blocks_are_in_view_at_every_size(
    stopped: tuple[Demonstration, Screen], width: int, height: int
) -> None:
    demo, screen = stopped
    shown = text(screen.draw(demo, width, height), width)
    assert len(shown.splitlines()) < height
    assert "In the IP sets: v4 1" in shown
    assert "203.0.113.1/32" in shown
    assert "1 of 1" in shown
    assert ("requests per second" in shown, "Events" in shown) == (width >= 120, width >= 120)


@pytest.mark.slow
def test_a_run_that_is_stopped_says_what_it_has_shown_so_far(stopped: tuple[Demonstration, Screen]) -> None:
    demo, _ = stopped
    shown = " ".join(text(closing(demo.summary(), demo, stopped=True), 104).split())
    assert "Stopped after 9 of 60 s." in shown
    assert "Every attacker was blocked" not in shown
    attackers = [name for name, actors in demo.kinds.items() if actors[0].attacker]
    refused = sum(demo.counts.refused[name] for name in attackers)
    assert refused > 0
    assert f"requests by attackers, {refused:,} (" in shown


def test_addresses_occur_at_an_edge_and_share_no_network() -> None:
    addresses = list(islice(public_addresses(Random(1)), 1000))
    assert all(ip_address(address).is_global for address in addresses)
    assert len({address.rpartition(".")[0] for address in addresses}) == 1000
    alone = [actor.network for actor in cast(7, 60) if actor.name in ("browser", "botnet")]
    assert all(ip_address(network.removesuffix("/32")).is_global for network in alone)
