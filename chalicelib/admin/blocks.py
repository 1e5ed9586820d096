"""Blocks in force: filtered, sorted, in pages."""

from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

import msgspec

from chalicelib.admin.answers import at_most
from chalicelib.admin.pagination import page, read_cursor
from chalicelib.admin.schemas import BlocksQuery
from chalicelib.admin.wording import reason
from chalicelib.core.addresses import NetworkSet, parse_network
from chalicelib.core.state import Block, Evidence
from chalicelib.pipeline.stored import State


class BlockView(msgspec.Struct, frozen=True, kw_only=True):
    """A block as operators see it."""

    network: str
    rule: str
    """Name of the rule, or 'manual'."""
    blocked_at: int
    """Time of the block. Epoch seconds."""
    until: int
    """First second at which the block is over. Epoch seconds."""
    offence: int
    """Number of the offence against the rule, from 1; 0 for a manual block."""
    evidence: Evidence | None
    comment: str
    by: str
    """The operator who made a manual block."""
    withheld: bool
    """True if the block overlaps the allowlist and is therefore in no IP set."""
    reason: str
    """The reason in words."""


class BlockPage(msgspec.Struct, frozen=True, kw_only=True):
    now: int
    """The server's time. Epoch seconds."""
    total: int
    """Matching blocks on all pages."""
    blocks: Annotated[list[BlockView], at_most(1000)]
    next: str | None
    """The cursor of the next page; null on the last page."""


ORDERS: dict[str, Callable[[Block], int]] = {
    "blocked_at": lambda block: block.blocked_at,
    "until": lambda block: block.until,
    "count": lambda block: block.evidence.count if block.evidence else 0,
    "network": lambda block: int(block.network_value().network_address) + (block.network_value().version == 6) * 2**33,
}


def view(block: Block, allowlist: NetworkSet) -> BlockView:
    return BlockView(
        network=block.network,
        rule=block.rule,
        blocked_at=block.blocked_at,
        until=block.until,
        offence=block.offence,
        evidence=block.evidence,
        comment=block.comment,
        by=block.by,
        withheld=allowlist.overlaps(block.network_value()),
        reason=reason(block),
    )


def list_blocks(state: State, query: BlocksQuery, *, allowlist: NetworkSet, now: int) -> BlockPage:
    """Returns a page of the blocks in force that match ``query``."""
    order, sign = ORDERS[query.sort.removeprefix("-")], -1 if query.sort.startswith("-") else 1

    def position(block: Block) -> tuple[int, str]:
        return sign * order(block), block.network

    matches = _filter(query)
    read = (stored.record for stored in state.all(Block))
    blocks = sorted((block for block in read if block.in_force(now) and matches(block)), key=position)
    after = tuple(read_cursor(query.cursor, [int, str])) if query.cursor else None
    rest = [block for block in blocks if after is None or position(block) > after]
    entries, following = page(rest, query.limit, position)
    return BlockPage(now=now, total=len(blocks), blocks=[view(block, allowlist) for block in entries], next=following)


def _filter(query: BlocksQuery) -> Callable[[Block], bool]:
    text = (query.text or "").lower()
    network = None
    with suppress(ValueError):
        network = parse_network(text)

    def matches(block: Block) -> bool:
        if query.rule is not None and block.rule != query.rule:
            return False
        if query.source is not None and (block.evidence is None or block.evidence.source != query.source):
            return False
        words = f"{block.network}\n{block.rule}\n{block.comment}\n{block.by}".lower()
        return text in words or (network is not None and block.network_value().overlaps(network))

    return matches
