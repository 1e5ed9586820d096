"""Responses: what AWS WAF does with the requests of the clients that a rule or an operator has named.

Each has a pair of IP sets and a rule of its own in the rule group. They are listed from the hardest to the softest.
Where several apply to a client, it is published under the hardest.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum


class Response(StrEnum):
    """A way to treat the requests of a client, the hardest first."""

    BLOCK = "block"
    """Refuses them, with a status that is a setting."""
    CAPTCHA = "captcha"
    """Answers 405 with a puzzle, unless the request has the token of a solved one."""
    CHALLENGE = "challenge"
    """Answers 202 with a script that browsers run unnoticed, unless the request has the token that it obtains."""
    SLOW = "slow"
    """Refuses those above a rate, as AWS WAF's rate-based rule counts it."""
    WATCH = "watch"
    """Lets them pass, with a label and a header to the origin."""


SOFTER = tuple(Response)[1:]
"""All but ``BLOCK``."""

BLOCKED = (Response.BLOCK,)
"""The ladder of a rule that blocks at once."""

LONGEST_LADDER = 10
"""Most responses in the ladder of a rule."""

_HARDNESS = {response: len(Response) - number for number, response in enumerate(Response)}


def hardness(response: Response) -> int:
    """Returns a number that is greater for a harder response.

    >>> hardness(Response.BLOCK) > hardness(Response.CHALLENGE) > hardness(Response.WATCH)
    True
    """
    return _HARDNESS[response]


def answer(ladder: Sequence[Response], offence: int) -> Response:
    """Returns the response to the ``offence``-th remembered offence: the last one of the ladder stays.

    >>> [answer((Response.WATCH, Response.BLOCK), offence).value for offence in (1, 2, 3)]
    ['watch', 'block', 'block']
    """
    return ladder[min(offence, len(ladder)) - 1]


def prolonged(ends: Mapping[Response, int], response: Response, until: int) -> dict[Response, int]:
    """Returns ``ends`` with ``response`` until at least ``until``: the hardest first, each ending later than all before
    it.

    A response that ends no later than a harder one is left out, because it never applies.

    >>> prolonged({Response.BLOCK: 50}, Response.WATCH, 90)
    {<Response.BLOCK: 'block'>: 50, <Response.WATCH: 'watch'>: 90}
    >>> prolonged({Response.WATCH: 90}, Response.BLOCK, 100)
    {<Response.BLOCK: 'block'>: 100}
    """
    latest, kept = 0, {}
    for each in Response:
        end = max(ends.get(each, 0), until if each is response else 0)
        if end > latest:
            kept[each] = latest = end
    return kept
