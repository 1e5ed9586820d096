"""What replay says that the circuit breakers of production would have done."""

from array import array
from collections.abc import Iterable, Iterator, Sequence

from chalicelib.core.addresses import parse_network
from chalicelib.core.breaker import Limits
from chalicelib.core.known_clients import KEPT_S, MEMORY_S, PERIOD_S, period_of
from chalicelib.core.logs.requests import Source
from chalicelib.core.rules_toml import parse_rules
from sluice.replay.breaches import BlockPeriod, Breach
from sluice.replay.breaker_model import Intervention, LogMemory, interventions
from sluice.replay.strips import Strip

START = period_of(1_760_000_000)
DAY = 86400
LIMITS = Limits(share=2, pace=100)
(BLOCKING, COUNTING) = parse_rules(
    "".join(
        f'[[rule]]\nname = "{name}"\nlimit = 10\nwindow = "5s"\naction = "{action}"\n'
        for name, action in (("burst", "block"), ("trial", "count"))
    )
).rules
REGULARS = [f"192.0.2.{host}" for host in range(200)]


def strip(clients: Sequence[str], at: int) -> Strip:
    packed = [parse_network(client).network_address.packed for client in clients]
    return Strip(Source.CLOUDFRONT, packed, array("Q", [at * 1000] * len(packed)), (None,), array("I"))


def memory(*strips: Strip, until: int = START + 2 * DAY) -> LogMemory:
    return LogMemory(strips, (START * 1000, until * 1000))


def breach(client: str, *at: int, count: int = 20, rule: str = "burst") -> Breach:
    network = parse_network(client)
    return Breach(
        rule=BLOCKING if rule == "burst" else COUNTING,
        client=network.network_address.packed,
        network=network,
        source=Source.CLOUDFRONT,
        peak=count,
        peak_first_ms=0,
        peak_last_ms=0,
        first_ms=0,
        requests=count,
        over=count,
        allowlisted=False,
        periods=tuple(BlockPeriod(since, since + 600, 1, count, 0, 0) for since in at),
        refused_by_ten_s={},
    )


def strangers(number: int) -> Iterator[str]:
    return (f"10.0.{n >> 8}.{n & 255}" for n in range(number))


def found(breaches: Iterable[Breach], known: LogMemory) -> list[Intervention]:
    return interventions(list(breaches), known, LIMITS)


def test_a_rule_that_would_block_known_clients_is_reported_as_stopped() -> None:
    known = memory(strip(REGULARS, START))
    at = START + DAY + 60
    blocked = [breach(client, at + number) for number, client in enumerate([*strangers(30), *REGULARS])]
    assert found(blocked, known) == [Intervention("burst", at + 34, 34, would_hit=5, known=200)]


def test_strangers_and_those_blocked_before_do_not_stop_it() -> None:
    known = memory(strip(REGULARS, START))
    at = START + DAY + 60
    assert found((breach(client, at) for client in strangers(1000)), known) == []
    assert found((breach(client, at - 600 * n, at) for n, client in enumerate(REGULARS, 1)), known) == []


def test_a_rule_that_only_counts_is_judged_by_itself() -> None:
    known = memory(strip(REGULARS, START))
    at = START + DAY + 60
    tried = [breach(client, at, rule="trial") for client in REGULARS]
    assert found([*tried, *(breach(client, at + 9) for client in REGULARS[:50])], known) == [
        Intervention("trial", at, 0, would_hit=200, known=200),
        Intervention("burst", at + 9, 0, would_hit=50, known=200),
    ]


def test_without_a_day_in_the_log_a_rule_is_slowed_down() -> None:
    known = memory(strip(REGULARS, START), until=START + MEMORY_S - 1)
    blocked = [breach(client, START + 30, count=11 + n) for n, client in enumerate(strangers(250))]
    assert found(blocked, known) == [Intervention("burst", START + 30, 250, last_at=START + 120)]
    assert found(blocked[:100], known) == []


def test_a_client_is_known_only_by_what_the_log_said_of_it_days_before() -> None:
    everybody = strip(REGULARS, START)
    at = START + DAY
    for days, stopped in ((1, True), (3, True), (4, False)):
        late = at + (days - 1) * DAY
        known = memory(everybody, strip(["198.51.100.1"], late - PERIOD_S * 2), until=late + 1)
        assert bool(found((breach(client, late) for client in REGULARS[:50]), known)) is stopped
    assert KEPT_S == 3 * DAY


def test_a_strip_across_two_periods_is_noted_in_both() -> None:
    clients = [parse_network(client).network_address.packed for client in ("192.0.2.1", "192.0.2.2")]
    across = Strip(
        Source.CLOUDFRONT, clients, array("Q", [START * 1000, (START + 3 * PERIOD_S) * 1000]), (None,), array("I")
    )
    known = memory(across)
    early, late = known.at(START + DAY), known.at(START + DAY + PERIOD_S)
    assert early is not None
    assert late is not None
    assert (early.marks, late.marks) == (1, 2)
