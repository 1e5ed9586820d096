"""Everything about one client, in figures and in words; and the busiest clients under each rule."""

from collections.abc import Iterator
from typing import Annotated

import msgspec

from chalicelib.admin.answers import LogName, at_most, one_of
from chalicelib.admin.blocks import BlockView, view
from chalicelib.admin.errors import NotFound
from chalicelib.admin.live_counts import LiveCounts
from chalicelib.admin.networks import covering, overlapping
from chalicelib.admin.wording import evidence, plural, roughly
from chalicelib.core.addresses import Network, network_of
from chalicelib.core.durations import format_duration
from chalicelib.core.latest_window import busiest
from chalicelib.core.rules import Action, Rule
from chalicelib.core.state import Allow, Block, Evidence, History, Pause
from chalicelib.pipeline.stored import State, networks_of

MOST_ENTRIES_SHOWN = 1000
"""Allowlist entries in the report of one client."""


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """A client's requests in the latest window of a rule."""

    rule: str
    source: LogName
    network: str
    """The client as the rule counts it."""
    count: int
    """Requests in the latest window."""
    limit: int
    window_s: int
    action: Action


class PastView(msgspec.Struct, frozen=True, kw_only=True):
    """A client's last offence against one rule."""

    network: str
    rule: str
    offence: int
    """Number of the offence, from 1."""
    until: int
    """End of the block for it, or the end it would have had. Epoch seconds."""
    outcome: Annotated[str, one_of("blocked", "extended", "counted", "allowlisted", "stale")]
    evidence: Evidence


class ClientReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known about one client."""

    now: int
    """The server's time. Epoch seconds."""
    network: str
    """The network that was asked about."""
    blocked: bool
    """True if AWS WAF blocks it, or will after the next publish."""
    blocks: list[BlockView]
    """Blocks in force that cover it."""
    allowlist: Annotated[list[Allow], at_most(MOST_ENTRIES_SHOWN)]
    """Entries that overlap it."""
    history: list[PastView]
    """The last offence against each rule."""
    lifted_at: int | None
    """End of its last block. Epoch seconds."""
    counts: list[Count]
    explain: list[str]
    """All of this in words, one sentence per item."""


class Busy(msgspec.Struct, frozen=True, kw_only=True):
    """One of the busiest clients."""

    network: str
    count: int
    """Requests in the window."""
    blocked_until: int | None
    """First second at which it is no longer blocked. Epoch seconds."""
    allowlisted: bool


class Busiest(msgspec.Struct, frozen=True, kw_only=True):
    """The busiest clients under one rule, as counted in one log."""

    rule: str
    source: LogName
    limit: int
    window_s: int
    action: Action
    from_ms: int
    """Start of the window, inclusive. Epoch milliseconds."""
    to_ms: int
    """End of the window, exclusive. Epoch milliseconds."""
    clients: Annotated[list[Busy], at_most(100)]
    """Busiest first."""


class Top(msgspec.Struct, frozen=True, kw_only=True):
    """The busiest clients under each rule."""

    now: int
    """The server's time. Epoch seconds."""
    rules: Annotated[list[Busiest], at_most(200)]


def client(state: State, live: LiveCounts, network: Network, *, sample_rate: int, now_ms: int) -> ClientReport:
    """Returns everything known about one client.

    A rule whose clients are narrower than the network has no count. If the tally logs are unreachable, the
    explanation says so.
    """
    now = now_ms // 1000
    names = covering(network)
    allowed = state.allowed(now)
    # A block of a wider network is withheld as a whole, for an entry that need not cover this client.
    allowlist = networks_of(allowed)
    stored = [block.record for block in state.get_many(Block, names).values()]
    blocks = sorted((block for block in stored if block.in_force(now)), key=lambda block: -block.until)
    histories = [history.record for history in state.get_many(History, names).values()]
    history = [
        PastView(
            network=of.network,
            rule=rule,
            offence=past.offence,
            until=past.until,
            outcome=past.outcome,
            evidence=past.evidence,
        )
        for of in histories
        for rule, past in of.rules.items()
    ]
    history.sort(key=lambda past: -past.evidence.last_ms)
    problem = live.problem(now_ms)
    uncounted = f"the counts cannot be read ({problem})" if problem else ""
    if not problem and not live.rules.rules:
        uncounted = "no rule is in force"
    counts = list(_counts(live, network, sample_rate, now_ms)) if problem is None else []
    views = [view(block, allowlist) for block in blocks]
    pause, breaker, _ = state.controls()
    found = ClientReport(
        now=now,
        network=str(network),
        blocked=any(not block.withheld for block in views) and not pause.released,
        blocks=views,
        allowlist=overlapping(allowed, network)[:MOST_ENTRIES_SHOWN],
        history=history,
        lifted_at=max((of.ended_at for of in histories if of.ended_at), default=None),
        counts=counts,
        explain=[],
    )
    sentences = explain(found, pause, breaker_open=breaker.open, uncounted=uncounted)
    return msgspec.structs.replace(found, explain=list(sentences))


def top(state: State, live: LiveCounts, *, rule: str | None, number: int, sample_rate: int, now_ms: int) -> Top:
    """Returns the busiest clients; ``live`` must be fresh. Raises NotFound for an unknown rule."""
    now = now_ms // 1000
    if rule is not None and all(other.name != rule for other in live.rules.rules):
        names = ", ".join(other.name for other in live.rules.rules) or "none"
        raise NotFound(f"There is no rule {rule!r}; there are: {names}.")
    allowlist = state.allowlist(now)
    lists = []
    for meant, source in live.counted():
        if rule is not None and meant.name != rule:
            continue
        window = live.window(meant, now_ms)
        found = [
            (network_of(key, *meant.prefixes), count * 100 // sample_rate)
            for key, count in busiest(live.clients(meant, source), window, number)
        ]
        blocks = state.get_many(Block, [str(network) for network, _ in found])
        until = {id: block.record.until for id, block in blocks.items() if block.record.in_force(now)}
        lists.append(
            Busiest(
                rule=meant.name,
                source=source,
                limit=meant.limit,
                window_s=meant.window_s,
                action=meant.action,
                from_ms=window.first * meant.slot_ms,
                to_ms=window.end * meant.slot_ms,
                clients=[
                    Busy(
                        network=str(network),
                        count=count,
                        blocked_until=until.get(str(network)),
                        allowlisted=allowlist.overlaps(network),
                    )
                    for network, count in found
                ],
            )
        )
    return Top(now=now, rules=lists)


def explain(client: ClientReport, pause: Pause, *, breaker_open: bool, uncounted: str) -> Iterator[str]:
    """Yields what is known about a client, one sentence each. ``uncounted``: why it has no counts, if so."""
    name, now = client.network, client.now
    for block in client.blocks:
        by = "" if block.network == name else f" by a block of {block.network}"
        yield f"{name} is blocked{by} for another {roughly(block.until - now)}: {block.reason}."
        if block.withheld:
            yield "That block is withheld: it overlaps the allowlist, so no IP set holds it."
    if not client.blocks:
        yield f"{name} is not blocked."
    for entry in client.allowlist:
        until = f" for another {roughly(entry.expires_at - now)}" if entry.expires_at is not None else ""
        comment = f" ({entry.comment})" if entry.comment else ""
        yield f"{entry.network} is on the allowlist{until}{comment}: no rule blocks it."
    if pause.released:
        yield "Enforcement is paused and the IP sets are emptied: nobody is refused."
    elif pause.paused:
        yield "Enforcement is paused: running blocks run out, nothing new is blocked."
    if breaker_open:
        yield "The circuit breaker is open: nothing new is blocked until it is reset."
    for count in client.counts:
        yield _standing(count)
    for past in client.history:
        yield (
            f"{roughly(max(0, now - past.evidence.last_ms // 1000))} ago: offence {past.offence} against "
            f"{evidence(past.evidence)}; {_OUTCOMES.get(past.outcome, past.outcome)}."
        )
    if client.lifted_at is not None:
        yield f"Its last block ended {roughly(max(0, now - client.lifted_at))} ago."
    if uncounted:
        yield f"What it does now is not known: {uncounted}."


_OUTCOMES = {
    "blocked": "it was blocked",
    "extended": "its block was prolonged",
    "counted": "the rule only counts",
    "allowlisted": "it was on the allowlist",
    "stale": "the log came too late for a block",
}


def _standing(count: Count) -> str:
    over = "over" if count.count > count.limit else "within"
    window = format_duration(count.window_s)
    return (
        f"Rule {count.rule} ({count.source} log): {plural(count.count, 'request')} of {count.network} in the latest "
        f"{window}, {over} the limit of {count.limit}."
    )


def _counts(live: LiveCounts, network: Network, sample_rate: int, now_ms: int) -> Iterator[Count]:
    for rule, source in live.counted():
        prefix = _prefix(rule, network)
        if network.prefixlen < prefix:
            continue
        of = network.supernet(new_prefix=prefix)
        count = live.window(rule, now_ms).count(live.slots(rule, source, of.network_address.packed))
        yield Count(
            rule=rule.name,
            source=source,
            network=str(of),
            count=count * 100 // sample_rate,
            limit=rule.limit,
            window_s=rule.window_s,
            action=rule.action,
        )


def _prefix(rule: Rule, network: Network) -> int:
    return rule.ipv4_prefix if network.version == 4 else rule.ipv6_prefix
