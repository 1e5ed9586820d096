"""Spilling to disk loses nothing and keeps clients that share blocks together."""

from collections import Counter, defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.addresses import NetworkSet, PrefixMemo, pack
from chalicelib.core.client_groups import group_keys, ungrouped
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS
from chalicelib.core.logs.log_format import DecodeOptions
from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import Slots
from chalicelib.core.rules import Meter
from chalicelib.core.rules_toml import parse_rules
from sluice.logs.file_decoder import LogDecoder
from sluice.replay.counts import Counted, Counts
from sluice.replay.engine import Options, spooled
from sluice.replay.prefilter import Prefilter
from sluice.replay.rule_sets import with_every_request
from sluice.replay.strips import StripReader
from tests.support import replay_logs as logs
from tests.support.replay_logs import CLIENTS, Hit, moments, one_rule

answered = st.builds(
    Hit,
    moments,
    st.sampled_from(CLIENTS),
    path=st.sampled_from(["/a", "/b"]),
    status=st.sampled_from(["200", "429", "404"]),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(answered, max_size=40), st.integers(0, 3))
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

    def content(counts: Counts) -> dict[tuple[Source, Meter, bytes], Slots]:
        return {
            (counted.source, counted.meter, client): slots
            for ledger in counts.ledgers()
            for counted in ledger.counts()
            for client, slots in counted.clients.items()
        }

    counted = content(spilled)
    assert counted == content(whole)
    of_all = [slots for (_, meter, _), slots in counted.items() if not meter.of_refusals]
    assert sum(number for slots in of_all for number in slots.values()) == len(made)
    spilled.close()


@settings(max_examples=40, deadline=None)
@given(made=st.lists(answered, max_size=30), scope=st.sampled_from(['path = ["/a"]', 'status = ["4xx"]', ""]))
def test_refusals_are_counted_by_themselves_as_well(made: list[Hit], scope: str) -> None:
    rules = one_rule(1, more=f"scope = {{ {scope} }}")
    (rule,) = rules.rules
    matching = [h for h in made if (h.path == "/a" or "path" not in scope) and (h.status[0] == "4" or "4" not in scope)]
    whole: Counter[tuple[bytes, int]] = Counter()
    refused: Counter[tuple[bytes, int]] = Counter()
    with spooled([logs.chunk(map(logs.realtime, made))], [rules], Options(), everyone=True) as log:
        for ledger in log.ledgers(rules):
            for client, slots in ledger.clients(Source.CLOUDFRONT, rule):
                whole.update({(client, slot): number for slot, number in slots.items()})
                refusals = ledger.refusals(Source.CLOUDFRONT, rule, client)
                refused.update({(client, slot): number for slot, number in refusals.items()})
    masked = PrefixMemo(*rule.prefixes)
    for counted, hits_counted in ((whole, matching), (refused, [h for h in matching if h.status == "429"])):
        assert counted == Counter((masked[packed(h.client)], h.ms // rule.slot_ms) for h in hits_counted)


def packed(client: str) -> bytes:
    address = pack(client)
    assert address is not None
    return address


def test_clients_that_share_blocks_are_spilled_to_the_same_part() -> None:
    rules = parse_rules(
        '[[rule]]\nname = "one"\nlimit = 1\nwindow = "1s"\n'
        '[[rule]]\nname = "net"\nlimit = 1\nwindow = "1s"\naggregate = { ipv4 = 24 }\n'
        '[[rule]]\nname = "page"\nlimit = 1\nwindow = "1s"\naggregate = { by = ["path"] }\n'
    )
    (narrow, wide, grouped) = (rule.meter for rule in rules.rules)
    counts = Counts(rules, most_entries=10)
    for number in range(200):
        address = bytes([192, 0, number % 8, number])
        network = address[:3] + b"\0"
        (group,) = group_keys([address], [bytes(8)])
        for meter, client in ((narrow, address), (wide, network), (grouped, group)):
            clients = {client: {number: 1}}
            counts.add([Counted(Source.WAF, meter, clients)])
    parts = defaultdict(set)
    for part, ledger in enumerate(counts.ledgers()):
        for counted in ledger.counts():
            for client in counted.clients:
                parts[ungrouped(client)[:3]].add(part)
    assert len(parts) == 8
    assert all(len(numbers) == 1 for numbers in parts.values())
    counts.close()
