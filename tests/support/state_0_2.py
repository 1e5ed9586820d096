"""The records of the state table as version 0.2 reads them: its fields, types and defaults, and a sample of each."""

import json
from typing import Any, Literal

import msgspec


class Base(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Offender(msgspec.Struct, frozen=True, array_like=True):
    network: str
    count: int
    first_ms: int
    last_ms: int
    since_ms: int


class Escalation(Base, frozen=True):
    factor: int
    max_s: int
    memory_s: int


class Terms(Base, frozen=True):
    name: str
    limit: int
    window_s: int
    action: Literal["block", "count"]
    block_for_s: int
    escalate: Escalation | None = None
    extend: bool = False
    rule_set: str = ""


class Detection(Base, frozen=True):
    id: str
    terms: Terms
    source: Literal["cloudfront", "waf", "cloudfront-standard", "load-balancer", "web-server"]
    offenders: tuple[Offender, ...]
    detected_ms: int
    arrived_ms: int


class Evidence(Base, frozen=True):
    rule: str
    count: int
    limit: int
    window_s: int
    first_ms: int
    last_ms: int
    source: str
    detection: str
    arrived_ms: int


class Block(Base, frozen=True):
    network: str
    blocked_at: int
    until: int
    rule: str = "manual"
    offence: int = 0
    evidence: Evidence | None = None
    comment: str = ""
    by: str = ""


class Past(Base, frozen=True):
    offence: int
    until: int
    outcome: str
    evidence: Evidence


class History(Base, frozen=True):
    network: str
    ended_at: int = 0
    rules: dict[str, Past] = {}


class Allow(Base, frozen=True):
    network: str
    comment: str = ""
    by: str = ""
    added_at: int = 0
    expires_at: int | None = None


class StoredRules(Base, frozen=True):
    text: str
    by: str = ""
    saved_at: int = 0
    comment: str = ""


class Pause(Base, frozen=True):
    paused: bool = False
    release: bool = False
    at: int = 0
    by: str = ""


class Breaker(Base, frozen=True):
    open: bool = False
    at: int = 0
    would_block: int = 0
    ignore_until: int = 0
    by: str = ""


class Heartbeat(Base, frozen=True):
    at: int = 0
    blocks: int = 0
    lifted: int = 0


class Call(Base, frozen=True):
    method: str
    path: str
    query: dict[str, list[str]] = {}
    headers: dict[str, str] = {}
    body: dict[str, Any] | None = None


class Audit(Base, frozen=True):
    at_ms: int
    by: str
    address: str
    request: str
    action: str
    target: str
    detail: str
    undo: Call | None = None


class Receipt(Base, frozen=True):
    request: str
    answer: str


EVIDENCE = {
    "rule": "burst",
    "count": 73,
    "limit": 50,
    "window_s": 5,
    "first_ms": 1789999935000,
    "last_ms": 1789999939049,
    "source": "cloudfront",
    "detection": "sluice-logs/shardId-000000000000@1790000000000/000000000041/burst/cloudfront",
    "arrived_ms": 1789999940000,
}
CLIENT = "203.0.113.9/32"
_SAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "Detection": (
        EVIDENCE["detection"],  # type: ignore[dict-item]
        {
            "id": EVIDENCE["detection"],
            "terms": {
                "name": "burst",
                "limit": 50,
                "window_s": 5,
                "action": "block",
                "block_for_s": 600,
                "escalate": {"factor": 2, "max_s": 86400, "memory_s": 604800},
                "extend": False,
                "rule_set": "7",
            },
            "source": "cloudfront",
            "offenders": [[CLIENT, 73, 1789999935000, 1789999939049, 1789999936500]],
            "detected_ms": 1789999941204,
            "arrived_ms": 1789999940000,
        },
    ),
    "Block": (
        CLIENT,
        {
            "network": CLIENT,
            "blocked_at": 1789999941,
            "until": 1790000540,
            "rule": "burst",
            "offence": 1,
            "evidence": EVIDENCE,
            "comment": "",
            "by": "",
        },
    ),
    "History": (
        CLIENT,
        {
            "network": CLIENT,
            "ended_at": 1790000580,
            "rules": {"burst": {"offence": 1, "until": 1790000540, "outcome": "blocked", "evidence": EVIDENCE}},
        },
    ),
    "Allow": (
        "198.51.100.0/24",
        {
            "network": "198.51.100.0/24",
            "comment": "head office",
            "by": "alice",
            "added_at": 1790000000,
            "expires_at": None,
        },
    ),
    "StoredRules": (
        "active",
        {
            "text": '[[rule]]\nname = "burst"\nlimit = 50\nwindow = "5s"\n',
            "by": "alice",
            "saved_at": 1790000000,
            "comment": "tighter burst",
        },
    ),
    "Pause": ("pause", {"paused": True, "release": False, "at": 1790000000, "by": "alice"}),
    "Breaker": ("breaker", {"open": True, "at": 1790000000, "would_block": 1412, "ignore_until": 0, "by": ""}),
    "Heartbeat": ("heartbeat", {"at": 1790000000, "blocks": 308, "lifted": 2}),
    "Audit": (
        "1790000000000-0a0b0c0d",
        {
            "at_ms": 1790000000000,
            "by": "alice",
            "address": "198.51.100.7",
            "request": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "action": "block.put",
            "target": CLIENT,
            "detail": f"{CLIENT} is blocked for 1h",
            "undo": {
                "method": "DELETE",
                "path": "/v1/blocks",
                "query": {"network": [CLIENT]},
                "headers": {},
                "body": None,
            },
        },
    ),
    "Receipt": ("5d0c2ab64b8b4d2ab0f0f2a9a4a3c9f1", {"request": "5d0c2ab64b8b", "answer": '{"changed":true}'}),
}
STORED = {name: (id, json.dumps(fields).encode()) for name, (id, fields) in _SAMPLES.items()}
"""Id and body of a record of each class, with every field that version 0.2 writes."""
