"""Stored records that cannot be read: of another version, typed by hand, or damaged."""

import json
from typing import Any

from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import Action
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import Block, History, Past
from chalicelib.core.state.breakers import Breaker, Known, RuleBreaker, Waiting
from chalicelib.core.state.detections import Detection, Evidence, Offender, Terms
from chalicelib.core.state.events import Event, Events
from chalicelib.core.state.operators import Audit, Pause, Receipt
from chalicelib.core.state.publishing import Heartbeat, Publisher, Recall
from chalicelib.core.state.records import StateRecord
from chalicelib.core.state.rule_sets import ACTIVE, StoredRules
from chalicelib.core.state.trends import Traffic, Trend, TrendMark
from chalicelib.ports import Item

NETWORK = "192.0.2.76/30"
OFFENDER = "192.0.8.1/33"
"""A client that offends in the chaos, typed with a prefix that does not exist."""
_EVIDENCE = Evidence(
    rule="burst",
    count=2,
    limit=1,
    window_s=1,
    first_ms=1,
    last_ms=2,
    source="cloudfront",
    detection="log/0/burst/cloudfront",
    arrived_ms=3,
)
VALID: dict[tuple[str, str], StateRecord] = {
    (Block.kind, NETWORK): Block(network=NETWORK, blocked_at=1, until=2_000_000_000, evidence=_EVIDENCE),
    (Allow.kind, NETWORK): Allow(network=NETWORK),
    (History.kind, NETWORK): History(
        network=NETWORK, rules={"burst": Past(offence=1, until=2, outcome="blocked", evidence=_EVIDENCE)}
    ),
    (Detection.kind, "log/0/burst/cloudfront"): Detection(
        id="log/0/burst/cloudfront",
        terms=Terms(name="burst", limit=1, window_s=1, action=Action.BLOCK, block_for_s=1),
        source=Source.CLOUDFRONT,
        offenders=(Offender(NETWORK, 2, 1, 2, 1),),
        detected_ms=1,
        arrived_ms=1,
    ),
    (StoredRules.kind, ACTIVE): StoredRules(text=""),
    (StoredRules.kind, "0000000009"): StoredRules(text=""),
    (Pause.kind, Pause.id): Pause(),
    (Breaker.kind, Breaker.id): Breaker(),
    (Heartbeat.kind, Heartbeat.id): Heartbeat(),
    (Publisher.kind, Publisher.id): Publisher(),
    (Recall.kind, Recall.id): Recall(),
    (Known.kind, "1759968000"): Known(started_at=1_759_968_000, counted_since=1_759_968_000, ipv4=bytes(4)),
    (RuleBreaker.kind, "burst"): RuleBreaker(rule="burst", hits={"c0000207": 1_760_000_000}),
    (Waiting.kind, "burst/log/0/burst/cloudfront"): Waiting(
        rule="burst", detection="log/0/burst/cloudfront", since=1_760_000_000, worst=2
    ),
    (Events.kind, "1760000000000-0a0b0c0d0e0f0a0b"): Events(
        at_ms=1_760_000_000_000, events=(Event(outcome="blocked", network=NETWORK, evidence=_EVIDENCE),)
    ),
    (Trend.kind, "1759996800"): Trend(hour=1_759_996_800, quarters=(Traffic(at=1_759_996_800, measured_s=900),)),
    (TrendMark.kind, TrendMark.id): TrendMark(at=1_760_000_000, requests={"log": 7}, refused={"log": 1}),
    (Audit.kind, "1760000000000-0a0b0c0d"): Audit(
        at_ms=1, by="alice", address="", request="", action="pause", target="enforcement", detail="paused"
    ),
    (Receipt.kind, "0a0b0c0d"): Receipt(request="0a0b0c0d", answer="{}"),
}
"""A readable record of each kind and id."""

REQUIRED = {
    Block.kind: "until",
    Allow.kind: "network",
    History.kind: "network",
    Detection.kind: "source",
    StoredRules.kind: "text",
    Known.kind: "started_at",
    RuleBreaker.kind: "rule",
    Waiting.kind: "since",
    Events.kind: "at_ms",
    Trend.kind: "hour",
    Audit.kind: "by",
    Receipt.kind: "answer",
}
"""A field of each kind that has no default."""


def _damaged() -> dict[str, Item]:
    items: dict[str, Item] = {}

    def add(what: str, kind: str, id: str, body: str) -> None:
        items[f"{kind} {id}: {what}"] = Item(kind=kind, id=id, body=body.encode(), version=3)

    def add_with(what: str, kind: str, id: str, **changes: Any) -> None:
        add(what, kind, id, json.dumps(json.loads(VALID[kind, id].to_json()) | changes))

    for (kind, id), record in VALID.items():
        fields = json.loads(record.to_json())
        if kind in REQUIRED:
            add("a field is missing", kind, id, json.dumps({k: v for k, v in fields.items() if k != REQUIRED[kind]}))
        add("every value is of another type", kind, id, json.dumps({name: [[]] for name in fields}))
        add("cut off", kind, id, record.to_json().decode()[:-1])
        add("not JSON", kind, id, f"{NETWORK} office")
        add("not an object", kind, id, "[]")
        add("nothing", kind, id, "")
        add("nested without end", kind, id, '{"body":' * 5000)
    for kind in (Block.kind, Allow.kind, History.kind):
        typed = VALID[kind, NETWORK].to_json().decode()
        for id in ("192.0.2.77/30", "192.0.2.0/33", "192.0.2.77", OFFENDER, "2001:DB8::/64", "office", ""):
            id_or_blank = id or " "
            add("typed by hand", kind, id_or_blank, typed.replace(NETWORK, id))
        add("under the id of another network", kind, "192.0.2.0/24", typed)
    block, detection = (Block.kind, NETWORK), (Detection.kind, "log/0/burst/cloudfront")
    add("all addresses", Block.kind, "0.0.0.0/0", VALID[block].to_json().decode().replace(NETWORK, "0.0.0.0/0"))
    add_with("never over", *block, until=10**18)
    add_with("a number without end", *block, offence=10**40)
    add_with("a negative time", *block, blocked_at=-1)
    add_with("an unknown source", *detection, source="alb-connection")
    add_with("an unknown action", *detection, terms={"name": "burst", "action": "ask"})
    add_with("an offender with host bits", *detection, offenders=[["192.0.2.77/30", 2, 1, 2, 1]])
    add("typed by hand", StoredRules.kind, "0000000009b", VALID[StoredRules.kind, ACTIVE].to_json().decode())
    return items


DAMAGED = _damaged()
"""Unreadable items, each with its kind, its id and what is wrong with it."""

HELD = {
    NETWORK: NETWORK,
    "192.0.2.77/30": NETWORK,
    "192.0.2.0/33": "192.0.2.0/23",
    "192.0.2.77": "192.0.2.77/32",
    OFFENDER: "192.0.8.1/32",
    "192.0.2.0/24": "192.0.2.0/24",
    "2001:DB8::/64": "2001:db8::/64",
}
"""The network that an unreadable allowlist entry means, by its id; those that mean none are left out."""
