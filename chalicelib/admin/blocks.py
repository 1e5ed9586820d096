"""Blocks in force: filtered, sorted, in pages."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from chalicelib.admin.pagination import page, read_cursor
from chalicelib.admin.wording import reason
from chalicelib.core.addresses import NetworkSet, parse_network
from chalicelib.core.state import Block, Evidence
from chalicelib.ports import StateStore


class BlockView(msgspec.Struct, frozen=True, kw_only=True):
    """A block as operators see it."""

    network: str
    rule: str
    blocked_at: int
    until: int
    offence: int
    evidence: Evidence | None
    comment: str
    by: str
    withheld: bool
    """It overlaps the allowlist and is in no IP set."""
    reason: str


class BlockPage(msgspec.Struct, frozen=True, kw_only=True):
    now: int
    total: int
    blocks: list[BlockView]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    rule: str | None = None
    source: str | None = None
    text: str | None = None
    """In network, rule, comment or maker, in any case; or an address or network that the block overlaps."""

    def test(self) -> Callable[[Block], bool]:
        text = (self.text or "").lower()
        network = None
        with suppress(ValueError):
            network = parse_network(text)

        def matches(block: Block) -> bool:
            if self.rule is not None and block.rule != self.rule:
                return False
            if self.source is not None and (block.evidence is None or block.evidence.source != self.source):
                return False
            words = f"{block.network}\n{block.rule}\n{block.comment}\n{block.by}".lower()
            return text in words or (network is not None and block.network_value().overlaps(network))

        return matches


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


def blocks(
    state: StateStore, wanted: Filter, *, sort: str, limit: int, cursor: str | None, allowlist: NetworkSet, now: int
) -> BlockPage:
    """``sort``: a key of ``ORDERS``, with '-' in front for descending order."""
    order, sign = ORDERS[sort.removeprefix("-")], -1 if sort.startswith("-") else 1

    def place(block: Block) -> tuple[int, str]:
        return sign * order(block), block.network

    matches = wanted.test()
    read = (Block.from_json(item.body) for item in state.query(Block.kind))
    found = sorted((block for block in read if block.until > now and matches(block)), key=place)
    after = tuple(read_cursor(cursor, [int, str])) if cursor else None
    rest = [block for block in found if after is None or place(block) > after]
    some, following = page(rest, limit, place)
    return BlockPage(now=now, total=len(found), blocks=[view(block, allowlist) for block in some], next=following)
