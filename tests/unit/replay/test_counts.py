"""Spilling to disk loses nothing and keeps clients that share blocks together."""

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.addresses import NetworkSet
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS
from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import Slots
from chalicelib.core.rules_toml import parse_rules
from sluice.logs.file_decoder import LogDecoder
from sluice.logs.log_format import DecodeOptions
from sluice.replay.counts import Counted, Counts
from sluice.replay.prefilter import Prefilter
from sluice.replay.rule_sets import with_every_request
from sluice.replay.strips import StripReader
from tests.support import replay_logs as logs
from tests.support.replay_logs import Hit, hits, one_rule


@settings(max_examples=40, deadline=None)
@given(hits, st.integers(0, 3))
def test_spilled_tallies_are_counted_too(made: list[Hit], limit: int) -> None:
    rules = with_every_request(one_rule(limit, more="aggregate = { ipv4 = 24, ipv6 = 64 }"))
    prefix = (24, 64)
    scopes = tuple(dict.fromkeys(rule.scope for rule in rules.rules))
    decoder = LogDecoder(DecodeOptions(DEFAULT_FIELDS, frozenset(), NetworkSet(())))
    reader = StripReader(decoder, scopes, prefix)
    whole, spilled = Counts(rules), Counts(rules, most_entries=2)
    for hit in made:
        for counts in (whole, spilled):
            _, strips = reader.read(logs.chunk([logs.realtime(hit)]))
            for part in Prefilter(rules, scopes, prefix, everyone=True).counts(strips):
                counts.add(part)

    def content(counts: Counts) -> dict[object, Slots]:
        return {
            (counted.source, counted.meter, client): slots
            for ledger in counts.ledgers()
            for counted in ledger.counts()
            for client, slots in counted.clients.items()
        }

    counted = content(spilled)
    assert counted == content(whole)
    assert sum(number for slots in counted.values() for number in slots.values()) == len(made)
    spilled.close()


def test_clients_that_share_blocks_are_spilled_to_the_same_part() -> None:
    rules = parse_rules(
        '[[rule]]\nname = "one"\nlimit = 1\nwindow = "1s"\n'
        '[[rule]]\nname = "net"\nlimit = 1\nwindow = "1s"\naggregate = { ipv4 = 24 }\n'
    )
    (narrow, wide) = (rule.meter for rule in rules.rules)
    counts = Counts(rules, most_entries=10)
    for number in range(200):
        address = bytes([192, 0, number % 8, number])
        network = address[:3] + b"\0"
        for meter, client in ((narrow, address), (wide, network)):
            clients = {client: {number: 1}}
            counts.add([Counted(Source.WAF, meter, clients)])
    parts = defaultdict(set)
    for part, ledger in enumerate(counts.ledgers()):
        for counted in ledger.counts():
            for client in counted.clients:
                parts[client[:3]].add(part)
    assert len(parts) == 8
    assert all(len(numbers) == 1 for numbers in parts.values())
    counts.close()
