"""Publishers under interleavings: the IP sets reach the wanted list (G6), never with an allowlisted network (G5).

Operators and sweeps change blocks and allowlist while up to three publishers run, each with a memory of its own. An
operator edits the sets by hand, sets are full, containers are replaced by cold ones, and the stream loses changes.
Invocations crash, fail, and continue after Lambda has given up on them.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from functools import partial
from ipaddress import collapse_addresses, ip_network
from random import Random
from unittest.mock import patch

from chalicelib.core.addresses import Network
from chalicelib.core.ipsets import CAPACITY, IpSet, SetGroup, rooms_of
from chalicelib.core.responses import SOFTER, Response, prolonged
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.operators import Pause
from chalicelib.edges.waf_ip_sets import WafIpSets
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.followed_blocks import REREAD_S
from chalicelib.pipeline.publish import Publish
from chalicelib.pipeline.stored import State
from chalicelib.pipeline.sweep import Sweep
from chalicelib.ports import Conflict, Delete, Item, Put, Unavailable
from sluice.local.stores import MemoryStateStore
from sluice.local.waf import WafStandIn
from tests.support.damaged import HELD
from tests.support.simulation.ingesting import START, Violation
from tests.support.simulation.listening import Listener, add_changes
from tests.support.simulation.ports import SwitchingIpSets, SwitchingStateStore
from tests.support.simulation.schedule import Crash, Faults, Schedule, Task
from tests.support.state import RULES

MOST_STEPS = 20_000
HOLDING_CAPACITY = ("chalicelib.core.ipsets", "sluice.local.waf")
"""Modules that know how many networks fit into an IP set."""

NETWORKS = [f"192.0.2.{host}/32" for host in range(6)] + ["192.0.2.0/30", "2001:db8::/64", "2001:db8:0:1::/64"]


Allowed = frozenset[tuple[str, int]]
"""The networks on the allowlist, each with a number that a removal and a new entry would change."""


def allowed(state: MemoryStateStore) -> Allowed:
    entries = [(item, Allow.read(item.id, item.body)) for item in state.query(Allow.kind)]
    readable = {(entry.network, entry.added_at) for _, entry in entries if isinstance(entry, Allow)}
    damaged = {(HELD[item.id], -1) for item, entry in entries if not isinstance(entry, Allow) and item.id in HELD}
    return frozenset(readable | damaged)


class WatchedIpSets(SwitchingIpSets):
    """Raises Violation for an update with a network that was on the allowlist before its round began."""

    def __init__(self, waf: WafStandIn, schedule: Schedule, allowed: Callable[[], Allowed]) -> None:
        super().__init__(WafIpSets(waf, "CLOUDFRONT"), schedule)  # type: ignore[arg-type]
        self._allowed = allowed
        self._since: dict[int, Allowed] = {}

    def tokens(self, sets: Collection[IpSet]) -> Mapping[IpSet, str]:
        self._since[id(self._schedule.running)] = self._allowed()
        return super().tokens(sets)

    def get(self, ip_set: IpSet) -> tuple[frozenset[Network], str]:
        self._since[id(self._schedule.running)] = self._allowed()
        return super().get(ip_set)

    def update(self, ip_set: IpSet, addresses: frozenset[Network], token: str) -> str:
        since = self._since[id(self._schedule.running)]
        next_token = super().update(ip_set, addresses, token)
        for allowed in [ip_network(name) for name, _ in since & self._allowed()]:
            for network in addresses:
                if network.version == allowed.version and network.overlaps(allowed):
                    raise Violation(f"{network} was published while {allowed} was on the allowlist")
        return next_token


class Publishing:
    """Prepares a run. Tests of the simulation pass a broken ``publisher``, which it must detect."""

    def __init__(
        self, seed: int, *, publisher: type[Publish] = Publish, faults: Faults | None = None, actions: int | None = None
    ) -> None:
        self.random = random = Random(seed)
        self.calm = random.random() < 0.5
        """Nothing happens that only a sweep mends: no edits by hand, no expiry, no refusals by WAF, no lost changes."""
        self.lossy = not self.calm and random.random() < 0.4
        """The stream loses changes, and there is one container, whose memory nothing else corrects."""
        self.capacity = random.choice([CAPACITY, CAPACITY, 1, 2])
        kinds: list[type[BaseException]] = [Crash] if self.calm else [Crash, Unavailable]
        faults = faults or Faults(random, chance=random.choice([0, 0.02, 0.1]), most=4, kinds=kinds)
        self.schedule = Schedule(random, faults, start=START)
        self.state = MemoryStateStore()
        self.switching = SwitchingStateStore(self.state, self.schedule)
        self.waf = WafStandIn(self._now, self.schedule.sleep)
        softer = random.sample(SOFTER, random.choice([0, 1, 2]))
        self._responses = (Response.BLOCK, *softer)
        groups = [SetGroup(Response.BLOCK, family) for family in [4, 6, 4][: random.choice([2, 3])]]
        groups += [SetGroup(response, family) for response in softer for family in (4, 6)]
        self.sets = tuple(self._made_set(number, group) for number, group in enumerate(groups))
        self.ip_sets = WatchedIpSets(self.waf, self.schedule, lambda: allowed(self.state))
        self.publish = Listener(
            self.schedule,
            "publish",
            lambda: partial(self._publisher(publisher).run, waits=random.random() < 0.5),
            most_containers=1 if self.lossy else random.choice([1, 2, 3]),
        )
        self._entries = 0
        self._lost = False
        self._actions = actions or random.choice([2, 3, 4, 8, 20])
        self._networks = random.sample(NETWORKS, random.choice([1, 1, 2, 4]))

    def play(self) -> None:
        """Raises Violation."""
        with ExitStack() as patches:
            for module in HOLDING_CAPACITY:
                patches.enter_context(patch(f"{module}.CAPACITY", self.capacity))
            self._play()

    def _play(self) -> None:
        self._run(self._actions)
        if not self.calm:
            self.schedule.faults = Faults(self.random, chance=0, most=0)
            if self._lost:
                self.schedule.now += REREAD_S
            self._sweep_until_nothing_expires()
        with patch("chalicelib.core.ipsets.CAPACITY", self.capacity):
            rooms = rooms_of(self.sets)
        expected, published = wanted_networks(self.state, self.schedule.now, rooms), published_by(self.waf, self.sets)
        if published != expected:
            raise Violation(difference(published, expected))

    def _sweep_until_nothing_expires(self) -> None:
        """Sweeps again if blocks expired during a sweep and its publish, because they leave with the next one."""
        swept_at = 0.0
        while not swept_at or any(
            swept_at < end <= self.schedule.now
            for item in self.state.query(Block.kind)
            for end in Block.from_json(item.body).ends.values()
        ):
            swept_at = self.schedule.now
            self._sweep()
            self._run(0)

    def _run(self, actions: int) -> None:
        for _ in range(MOST_STEPS):
            self.schedule.now += self.random.choice([0, 0, 0.05, 0.4])
            add_changes(self.state.changes, self.publish)
            self.state.changes.clear()
            choice = self.random.random()
            if actions and choice < 0.12:
                actions -= 1
                self._act()
            elif choice < 0.35:
                self.publish.deliver()
            elif choice < 0.37:
                self.publish.give_up()
            elif choice < 0.372:
                self.publish.forget_a_container()
            elif not self.schedule.step() and not actions and self.publish.settled and not self.state.changes:
                return
        raise Violation(f"nothing settled within {MOST_STEPS} steps")

    def _act(self) -> None:
        actions: list[Callable[[], None]] = [
            self._block,
            self._block,
            self._block,
            self._lift,
            self._allow,
            self._disallow,
        ]
        actions += [self._pause] if self.random.random() < 0.3 else []
        if not self.calm:
            actions += [self._edit_by_hand, self._sweep, self._let_blocks_expire]
            actions += [self._lose_changes] * (10 if self.lossy else 0)
        self.random.choice(actions)()

    def _block(self) -> None:
        network, now = self.random.choice(self._networks), int(self.schedule.now)
        length = 100_000 if self.calm else self.random.choice([5, 600, 100_000])
        stored = self.state.get(Block.kind, network)
        ends: dict[Response, int] = {}
        for response in self.random.sample(self._responses, self.random.choice([1, 1, len(self._responses)])):
            ends = prolonged(ends, response, now + length * self.random.choice([1, 2]))
        block = Block.with_ends(ends, network=network, blocked_at=now)
        version = stored.version if stored else 0
        self.state.write([Put(Item(kind=Block.kind, id=network, body=block.to_json(), version=version))])

    def _lift(self) -> None:
        stored = list(self.state.query(Block.kind))
        if stored:
            self.state.write([Delete(self.random.choice(stored))])

    def _allow(self) -> None:
        network = self.random.choice(self._networks)
        if self.state.get(Allow.kind, network) is None:
            self._entries += 1
            entry = Allow(network=network, added_at=self._entries)
            State(self.state).overwrite(entry)

    def _disallow(self) -> None:
        stored = list(self.state.query(Allow.kind))
        if stored:
            self.state.write([Delete(self.random.choice(stored))])

    def _pause(self) -> None:
        pause = Pause(paused=self.random.random() < 0.5, release=True, at=int(self.schedule.now))
        State(self.state).overwrite(pause)

    def _edit_by_hand(self) -> None:
        ip_set = self.random.choice(self.sets)
        contents = self.waf._sets[ip_set.id]
        own = [network for network in (*NETWORKS, "198.51.100.0/24") if (":" in network) == (ip_set.family == 6)]
        contents.addresses = self.random.sample(own, self.random.randint(0, len(own)))
        contents.version += 1

    def _lose_changes(self) -> None:
        """Changes a block, of which the stream says nothing."""
        self.random.choice([self._block, self._lift])()
        self.state.changes.clear()
        self._lost = True

    def _let_blocks_expire(self) -> None:
        self.schedule.now += self.random.choice([5, 700])

    def _sweep(self) -> None:
        sweep = Sweep(state=State(self.switching), clock=self._now)

        def ended(task: Task) -> None:
            if task.failure is not None and not isinstance(task.failure, (Crash, Unavailable, Conflict)):
                raise task.failure

        self.schedule.spawn("sweep", sweep.run, ended)

    def _publisher(self, publisher: type[Publish]) -> Publish:
        return publisher(
            state=State(self.switching),
            rules=lambda _: RulesInUse(RULES),
            ip_sets=self.ip_sets,
            sets=self.sets,
            clock=self._now,
            sleep=self.schedule.sleep,
        )

    def _now(self) -> float:
        return self.schedule.now

    def _made_set(self, number: int, group: SetGroup) -> IpSet:
        name, family = f"set-{number}", f"IPV{group.family}"
        made = self.waf.create_ip_set(Name=name, Scope="CLOUDFRONT", IPAddressVersion=family, Addresses=[])
        return IpSet(name, made["Summary"]["Id"], group.family, group.response)


def published_by(waf: WafStandIn, sets: Iterable[IpSet]) -> set[tuple[SetGroup, Network]]:
    """Returns the networks in ``sets``, each with their group."""
    contents = waf.published()
    return {(ip_set.group, ip_network(name)) for ip_set in sets for name in contents.get(ip_set.name, ())}


Listed = AbstractSet[tuple[SetGroup, Network]]
"""Networks with the groups of the IP sets that they are in."""


def difference(published: Listed, expected: Listed) -> str:
    """Returns in words what is published and should not be, and the other way round."""
    surplus, missing = (
        sorted(f"{network} under {group.response}" for group, network in each)
        for each in (published - expected, expected - published)
    )
    return f"published but not wanted: {surplus}; wanted but not published: {missing}"


def wanted_networks(
    state: MemoryStateStore, now: float, rooms: Mapping[SetGroup, int]
) -> set[tuple[SetGroup, Network]]:
    """Returns the networks of the blocks in force without what is on the allowlist, collapsed, with their groups.

    If a group has more of them than ``rooms`` allows, only so many: first those of manual blocks, then those of the
    newest blocks, and of one block the widest first.
    """
    if State(state).pause(int(now)).paused:
        return set()
    allowlist = [ip_network(name) for name, _ in allowed(state)]
    ranked = sorted(State(state).records(Block), key=_rank, reverse=True)
    answered = [(block.response_at(int(now)), ip_network(block.network)) for block in ranked]
    free = [(response, part) for response, network in answered for part in without(network, allowlist)]
    expected: set[tuple[SetGroup, Network]] = set()
    for group, room in rooms.items():
        of_group = [network for response, network in free if (response, network.version) == group]
        kept = set(collapse_addresses(of_group))  # type: ignore[type-var]
        kept = kept if len(kept) <= room else set(collapse_addresses(of_group[:room]))  # type: ignore[type-var]
        expected |= {(group, network) for network in kept}
    return expected


def without(network: Network, allowlist: Iterable[Network]) -> list[Network]:
    """Returns the fewest networks with the addresses of ``network`` that are not in ``allowlist``, the widest first."""
    parts = [network]
    for allowed in allowlist:
        clear = [part for part in parts if part.version != allowed.version or not part.overlaps(allowed)]
        wider = [part for part in parts if part not in clear and not part.subnet_of(allowed)]  # type: ignore[arg-type]
        parts = [*clear, *(rest for part in wider for rest in part.address_exclude(allowed))]  # type: ignore[arg-type]
    return sorted(parts, key=lambda part: (part.prefixlen, part))


def _rank(block: Block) -> tuple[bool, int, int, int]:
    network = ip_network(block.network)
    return block.manual, block.blocked_at, int(network.network_address), int(network.broadcast_address)
