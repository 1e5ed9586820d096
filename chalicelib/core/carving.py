"""The networks that are published for a block: its network without the parts that are on the allowlist.

A rule that counts networks also counts the allowlisted clients in them, so an allowlisted client may cause its
neighbours to be blocked. If it spared them instead, a single allowlisted client would protect every attacker beside it.
"""

from collections.abc import Sequence

from chalicelib.core.addresses import NetworkSet, Span

MOST_PIECES = 64
"""Most networks that are published in place of one. A /64 without one address takes as many."""


def carved(span: Span, allowlist: NetworkSet) -> Sequence[Span]:
    """Returns the fewest networks that hold the addresses of ``span`` that are not in ``allowlist``, widest first.

    Empty if all of them are in it. At most the widest ``MOST_PIECES`` are returned.

    >>> from chalicelib.core.addresses import network_at, parse_network, span_of
    >>> pieces = carved(span_of("192.0.2.0/29"), NetworkSet([parse_network("192.0.2.3")]))
    >>> [str(network_at(piece)) for piece in pieces]
    ['192.0.2.4/30', '192.0.2.0/31', '192.0.2.2/32']
    """
    if not allowlist.meets(span):
        return (span,)
    return sorted(allowlist.outside(span), key=lambda piece: (piece[1] - piece[2], piece[1]))[:MOST_PIECES]
