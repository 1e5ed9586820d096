"""Guilty networks: how well a few of them explain real bots, and what they cost with very many blocks in force.

The real addresses are not part of the project. ``PUBLIC_LOGS`` in the environment names a folder with them:
``wb_bot_summary.json.gz`` of thisismattmiller/wb-access-logs, and any access logs in the combined format, ``*.log.gz``.
Without it, only the costs are measured.
"""

import gzip
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.measure import Figure, cpu_s
from chalicelib.core.addresses import NetworkSet, pack, parse_network
from chalicelib.core.known_clients import Digest, KnownClients
from chalicelib.core.networks import GuiltyClients
from chalicelib.core.rules import NetworkTerms
from chalicelib.core.state.blocks import Block

NOW = 1_790_000_000
SCATTERED, CLUMPS = 100_000, 300
"""Blocks far apart, and /24's with 16 blocks each."""
CALLS_ITSELF_A_BOT = re.compile("bot|crawl|spider|slurp", re.IGNORECASE)
SEARCH_ENGINES = NetworkSet(map(parse_network, ("173.252.64.0/18", "220.181.108.0/24")))
"""Networks of Facebook's and Baidu's crawlers, which do not always say what they are."""
LINE = re.compile(r'(\S+) .*"([^"]*)"\s*$')


def blocks(addresses: Iterable[str]) -> list[Block]:
    return [Block(network=f"{each}/32", blocked_at=NOW, until=NOW + 600, rule="burst") for each in addresses]


def figures() -> Iterator[Figure]:
    if folder := os.environ.get("PUBLIC_LOGS"):
        yield from _explained(Path(folder))
    yield from _costs()


def _explained(folder: Path) -> Iterator[Figure]:
    summary = json.loads(gzip.decompress((folder / "wb_bot_summary.json.gz").read_bytes()))["bot_summary"]
    bots = sorted({ip for bot in summary.values() for ip in bot["ips"]})
    people = _people(folder)
    strangers = KnownClients(Digest().plus([pack("192.0.2.1") or b""]))
    clients = GuiltyClients(blocks(bots))
    guilty = clients.networks(NetworkTerms(), strangers, NOW)
    networks = NetworkSet(parse_network(each.network) for each in guilty)
    covered = sum(networks.overlaps(parse_network(each)) for each in bots)
    how = f"{len(bots):,} addresses of declared bots in two weeks, all blocked at once"
    yield Figure("guilty networks that explain real bots", len(guilty), "networks", 300, how)
    yield Figure("real bots within guilty networks", 100 * covered / len(bots), "%", 93, how, at_least=True)
    inside = [each for each in people if networks.overlaps(parse_network(each))]
    yield Figure(
        "clients in guilty networks that are no bots",
        len(inside),
        "clients",
        0,
        f"of {len(people):,} in other logs that name no bot, without Facebook's and Baidu's; none is known",
    )
    yield Figure(
        "CPU of explaining real bots", cpu_s(lambda: clients.networks(NetworkTerms(), strangers, NOW)), "s", 0.5, how
    )


def _people(folder: Path) -> list[str]:
    """Returns those clients of the access logs whose requests never name a bot."""
    agents: dict[str, str] = {}
    for log in sorted(folder.glob("*.log.gz")):
        with gzip.open(log, "rt", errors="replace") as lines:
            for line in lines:
                if (match := LINE.match(line)) and pack(match[1]):
                    agents[match[1]] = agents.get(match[1], "") + match[2]
    clients = [client for client, names in agents.items() if not CALLS_ITSELF_A_BOT.search(names)]
    return [client for client in clients if not SEARCH_ENGINES.overlaps(parse_network(client))]


def _costs() -> Iterator[Figure]:
    scattered = blocks(f"10.{n >> 9 & 255}.{n >> 1 & 255}.{n >> 17 | (n & 1) << 7}" for n in range(SCATTERED))
    clumps = blocks(f"172.{16 + (n >> 12)}.{n >> 4 & 255}.{n & 15}" for n in range(16 * CLUMPS))
    known = KnownClients(Digest().plus(bytes([10, n >> 8, n & 255, 1]) for n in range(20_000)))
    clients = GuiltyClients([*scattered, *clumps])
    how = f"{SCATTERED:,} blocks, at most two of a /24, and {CLUMPS} crowded /24's, 20,000 known clients"
    terms = NetworkTerms()
    yield Figure(
        "CPU of finding guilty networks", cpu_s(lambda: clients.networks(terms, known, NOW), rounds=3), "s", 0.5, how
    )
    every = [*scattered, *clumps]
    yield Figure(
        "CPU of sorting all blocks again", cpu_s(lambda: GuiltyClients(every), rounds=3), "s", None, "the peer"
    )
    one = blocks(["10.200.0.1"])[0]

    def replace() -> None:
        for _ in range(1000):
            clients.replace(one.network, one)
            clients.replace(one.network, None)

    yield Figure("CPU of following 2,000 changes of blocks", cpu_s(replace), "s", 0.05, how)
