"""Everything about one client, in figures and in words."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import msgspec
from msgspec.structs import asdict

from chalicelib.admin.answers import RuleCount, TimedAnswer, at_most
from chalicelib.admin.blocks import BlockView
from chalicelib.admin.inputs import covering, overlapping, read_network
from chalicelib.admin.listed_blocks import Listed, ListedBlocks
from chalicelib.admin.live_counts import LiveCounts
from chalicelib.admin.schemas import AddressQuery
from chalicelib.core.addresses import Network, NetworkSet, Span, network_of, network_span, span_of
from chalicelib.core.allowance import Allowance
from chalicelib.core.carving import carved
from chalicelib.core.decisions import Outcome
from chalicelib.core.durations import format_duration
from chalicelib.core.latest_window import busiest
from chalicelib.core.measures import Measure, amount_text, unit_text
from chalicelib.core.portraits import Portrait
from chalicelib.core.sampling import Sampling
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import Block, History, Past
from chalicelib.core.state.operators import Pause
from chalicelib.core.wording import RESPONSES, evidence, few, looked_like, plural, roughly
from chalicelib.pipeline.rule_breakers import stopped_rules
from chalicelib.pipeline.stored import State

MOST_ENTRIES_SHOWN = 1000
"""Most allowlist entries in the report on one client."""

MOST_INSIDE = 100
"""Most blocks inside a network in the report on it."""

BUSIEST_INSIDE = 5
"""Most clients inside a network whose counts are in the report on it, for each rule and log."""


OLD_S = 10
"""Age of a window's end in seconds, from which on a sentence about it says so."""


class Count(RuleCount, frozen=True, kw_only=True):
    """A client's requests in the latest window of a rule."""

    network: str
    """The client as the rule counts it."""
    count: int
    """Requests in the latest window, or what the rule measures of them, or requests above a bucket's rate; scaled up by
    the sample rate."""
    to_ms: int
    """End of the window, exclusive. Epoch milliseconds."""


class PastView(Past, frozen=True):
    """A client's last offence against one rule."""

    network: str
    rule: str


class ClientReport(TimedAnswer, frozen=True, kw_only=True):
    """Everything known about one client."""

    network: str
    """The network that was asked about."""
    blocked: bool
    """True if AWS WAF refuses its requests or answers them by another response, or will after the next publish, unless
    the IP sets are full."""
    blocks: list[BlockView]
    """Blocks in force that cover it."""
    allowlist: Annotated[list[Allow], at_most(MOST_ENTRIES_SHOWN)]
    """Entries that overlap it."""
    history: list[PastView]
    """The last offence of it, and of each wider network, against each rule; latest first."""
    lifted_at: int | None
    """Time at which its last block was lifted; null if none is remembered. Epoch seconds."""
    allowlisted: bool
    """True if all of it is exempt from every rule."""
    blocks_inside: int
    """Blocks in force of networks inside it, itself excluded."""
    inside: Annotated[list[BlockView], at_most(MOST_INSIDE)]
    """The first of them, the latest to end first."""
    counts: list[Count]
    """Those of the network or, if it holds several of a rule's clients, of the five busiest of them."""
    explain: list[str]
    """All of this in words, one sentence per item."""
    portrait: Portrait | None = None
    """The looks of its requests of the last five minutes, if a batch of them brought it close to a limit."""


def client_report(
    state: State, listed: ListedBlocks, live: LiveCounts, query: AddressQuery, *, sampling: Sampling, now_ms: int
) -> ClientReport:
    """Returns everything known about one client. Raises Invalid.

    If the tally logs are unreachable, the explanation gives the reason.
    """
    now = now_ms // 1000
    network = read_network(query.address, "query", "address")
    names = covering(network)
    exempt = state.exemptions(now)
    stored = [each.record for each in state.get_many(Block, names).values()]
    blocks = sorted((block for block in stored if block.in_force(now)), key=lambda block: -block.ends_at)
    inside = _blocks_inside(listed, network, now)
    is_published = any(_meets(network_span(network), carved(span_of(each.network), exempt.networks)) for each in blocks)
    views = [BlockView.of(block, exempt.networks, now) for block in blocks]
    histories = [each.record for each in state.get_many(History, names).values()]
    history = [
        PastView(network=each.network, rule=rule, **asdict(past))
        for each in histories
        for rule, past in each.rules.items()
    ]
    problem = live.problem(now_ms)
    uncounted = f"the counts cannot be read ({problem})" if problem else ""
    if not problem and not live.rules.rules:
        uncounted = "no rule but quotas is in force" if live.quotas else "no rule is in force"
    pause, stopped = state.pause(now), [breaker.rule for breaker in stopped_rules(state)]
    report = ClientReport(
        now=now,
        network=str(network),
        blocked=is_published and not pause.released,
        blocks=views,
        allowlist=overlapping(exempt.entries, network)[:MOST_ENTRIES_SHOWN],
        history=sorted(history, key=lambda past: -past.evidence.last_ms),
        lifted_at=max((each.ended_at for each in histories if each.ended_at), default=None),
        allowlisted=exempt.networks.covers(network_span(network)),
        blocks_inside=len(inside),
        inside=[BlockView.of(listed.block(each), exempt.networks, now) for each in inside[:MOST_INSIDE]],
        counts=[] if problem else list(_counts(live, network, sampling, now_ms)),
        explain=[],
        portrait=None if problem else next(filter(None, (live.portrait(name, now_ms) for name in names)), None),
    )
    sentences = explain(report, pause, stopped=stopped, uncounted=uncounted)
    return msgspec.structs.replace(report, explain=list(sentences))


def explain(client: ClientReport, pause: Pause, *, stopped: Sequence[str], uncounted: str) -> Iterator[str]:
    """Yields what is known about a client, one sentence at a time.

    ``stopped``: rules that their circuit breakers have stopped. ``uncounted``: the reason if the client has no counts,
    else empty.
    """
    name, now = client.network, client.now
    for block in client.blocks:
        by = "" if block.network == name else f" by a block of {block.network}"
        state = f"{'is' if client.blocked else 'would be'} {RESPONSES[block.response]}"
        yield f"{name} {state}{by} for another {roughly(block.until - now)}: {block.reason}."
        if block.withheld:
            yield f"That block is withheld: {block.network} is on the allowlist, so it is in no IP set."
        elif block.carved:
            yield f"The allowlisted parts of {block.network} are carved out of that block."
    if not client.blocks and not client.inside:
        yield f"{name} is not blocked."
    if client.inside:
        shown = few([block.network for block in client.inside], client.blocks_inside)
        verb = "are" if client.blocks_inside > 1 else "is"
        yield f"{plural(client.blocks_inside, 'network')} in it {verb} blocked: {shown}."
    for entry in client.allowlist:
        until = f" for another {roughly(entry.expires_at - now)}" if entry.expires_at is not None else ""
        comment = f" ({entry.comment})" if entry.comment else ""
        yield f"{entry.network} is on the allowlist{until}{comment}: {_spared_by(entry)}."
    if pause.paused:
        yield _paused(pause, now)
    for rule in stopped:
        yield f"Rule {rule} is stopped by its circuit breaker: it blocks no new client."
    yield from (_counted(count, now) for count in client.counts if count.count)
    if client.counts and not any(count.count for count in client.counts):
        yield "No rule counts a request of it at the moment."
    for past in client.history:
        yield (
            f"{roughly(max(0, now - past.evidence.last_ms // 1000))} ago: offence {past.offence} against "
            f"{evidence(past.evidence)}; {_outcome(past)}."
        )
    yield from _looks(client)
    if client.lifted_at is not None:
        yield f"Its last block ended {roughly(max(0, now - client.lifted_at))} ago."
    if uncounted:
        yield f"Its current requests are unknown: {uncounted}."


def _looks(client: ClientReport) -> Iterator[str]:
    """Yields what the client's requests look like now, and before the latest offence for which that is known."""
    if client.portrait is not None:
        yield f"In the last minutes, {looked_like(client.portrait)}."
    for past in client.history:
        if past.evidence.portrait is not None:
            yield f"Shortly before its offence against {past.rule}, {looked_like(past.evidence.portrait)}."
            return


def _blocks_inside(listed: ListedBlocks, network: Network, now: int) -> list[Listed]:
    """Returns the blocks in force of networks inside ``network``, the latest to end first."""
    span = network_span(network)
    if span[1] == span[2]:
        return []
    within = NetworkSet([network]).covers
    inside = [block for block in listed.in_force(now) if within(block.span) and block.span != span]
    return sorted(inside, key=lambda block: (-block.ends_at, block.network))


def _paused(pause: Pause, now: int) -> str:
    rest = f" for another {roughly(pause.until - now)}" if pause.until else ""
    if pause.release:
        return f"Enforcement is paused{rest} and the IP sets are emptied, so no client is blocked."
    return f"Enforcement is paused{rest}: existing blocks run out, and rules block no new client."


def _spared_by(entry: Allow) -> str:
    """Returns the rules that do not block a network on the allowlist, in words."""
    if not entry.rules:
        return "no rule blocks it"
    return f"these rules do not block it, others do: {', '.join(entry.rules)}"


def _meets(span: Span, others: Iterable[Span]) -> bool:
    """Returns whether any of the networks ``others``, of the same version, overlaps ``span``."""
    return any(first <= span[2] and span[1] <= last for _, first, last in others)


def _counted(count: Count, now: int) -> str:
    over = "over" if count.count > count.limit else "within"
    requests = plural(count.count, "request")
    limit = str(count.limit)
    if count.measure != Measure.REQUESTS:
        requests = amount_text(count.measure, count.count) + unit_text(count.measure, count.count)
        limit = amount_text(count.measure, count.limit)
    counted = f"Rule {count.rule} ({count.source} log): {requests} from {count.network}"
    if count.rate:
        return f"{counted} above {count.rate} at present, {over} the burst of {limit}."
    age_s = now - count.to_ms // 1000
    ended = f", which ended {roughly(age_s)} ago" if age_s > OLD_S else ""
    return f"{counted} in the latest {format_duration(count.window_s)}{ended}, {over} the limit of {limit}."


_OUTCOMES = {
    "extended": "its block was extended",
    "counted": "the rule only counts",
    "allowlisted": "it was on the allowlist",
    "proxy": "it is a proxy of a CDN, so it is not blocked: set TRUSTED_PROXIES to count the clients behind it",
    "stale": "the log arrived too late for a block",
}


def _outcome(past: Past) -> str:
    if past.outcome == Outcome.BLOCKED:
        return f"it was {RESPONSES[past.response]}"
    return _OUTCOMES.get(past.outcome, past.outcome)


def _counts(live: LiveCounts, network: Network, sampling: Sampling, now_ms: int) -> Iterator[Count]:
    for rule, source in live.counted():
        window, allowance = live.window(rule, now_ms), Allowance.of(rule, source, sampling)
        prefix = rule.ipv4_prefix if network.version == 4 else rule.ipv6_prefix
        if network.prefixlen < prefix:
            within = NetworkSet([network])
            clients = (each for each in live.view.clients(source, rule) if within.contains(each[0]))
            counts = [
                (str(network_of(key, *rule.prefixes)), count)
                for key, count in busiest(clients, window, BUSIEST_INSIDE, allowance)
            ]
        else:
            client = network.supernet(new_prefix=prefix)
            groups = live.view.groups(source, rule, client.network_address.packed)
            counts = [(str(client), max((window.count(slots, allowance) for slots in groups), default=0))]
        logged, to_ms = sampling.of(source), window.end * rule.slot_ms
        for name, count in counts:
            yield Count.under(logged.applied(rule), source, network=name, count=logged.made(count), to_ms=to_ms)
