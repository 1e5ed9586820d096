"""Records in words."""

from collections.abc import Iterable, Sequence

from chalicelib.core.measures import amount_text, counted_text
from chalicelib.core.portraits import Portrait
from chalicelib.core.responses import Response
from chalicelib.core.state.blocks import MANUAL, Block, Members
from chalicelib.core.state.detections import Evidence
from chalicelib.core.state.events import Event

MOST_NAMED = 3
"""Most networks named in a sentence; the sentence gives the number of the others."""

RESPONSES = {
    Response.BLOCK: "blocked",
    Response.CAPTCHA: "asked to solve a puzzle",
    Response.CHALLENGE: "challenged",
    Response.SLOW: "slowed down",
    Response.WATCH: "watched",
}
"""Words for a client, by the response that applies to it."""


def without_sets(response: Response, usable: Iterable[Response]) -> str:
    """Returns what is accepted in place of a response that has no IP sets."""
    names = " or ".join(sorted(map(repr, map(str, usable))))
    setup = f"'sluice setup --respond {response}' creates those of {response}"
    return f"a response that has IP sets, which is {names}; {setup}"


def evidence(seen: Evidence) -> str:
    if seen.rate:
        return f"{seen.rule}: {seen.count} requests above {seen.rate}, burst {seen.limit}"
    counted = counted_text(seen.measure, seen.count, seen.window_s)
    return f"{seen.rule}: {counted}, limit {amount_text(seen.measure, seen.limit)}"


def looked_like(portrait: Portrait) -> str:
    """Returns what a client's requests were, and by whom they seem to be made.

    >>> seen = {"lines": {"POST www.example.com/login 401": 9, "GET www.example.com/ 200": 3}, "asns": {"64500": 12}}
    >>> looked_like(Portrait(requests=12, user_agents={"curl/8.5.0": 12}, **seen))
    '9 of 12 requests looked at were POST www.example.com/login 401; user agent curl/8.5.0, AS 64500'
    """
    line, number = next(iter(portrait.lines.items()), ("not described by the log", portrait.requests))
    kinds = ("user agent", portrait.user_agents), ("country", portrait.countries), ("AS", portrait.asns)
    origin = ", ".join(f"{kind} {next(iter(values))}" for kind, values in kinds if values)
    return f"{number} of {plural(portrait.requests, 'request')} looked at were {line}" + (origin and f"; {origin}")


def reason(block: Block) -> str:
    if block.evidence is not None and not block.manual:
        return evidence(block.evidence)
    if block.members is not None:
        return members(block.members)
    made_by = f"blocked by {block.by or 'an operator'}"
    return f"{made_by}: {block.comment}" if block.comment else made_by


def members(seen: Members) -> str:
    """Returns what makes a network guilty, and who else was seen in it.

    >>> members(Members(number=9, named=("192.0.2.1/32", "192.0.2.2/32"), innocents=("192.0.2.9/32",)))
    '9 of its clients are blocked: 192.0.2.1/32, 192.0.2.2/32 and 7 more; also seen in it: 192.0.2.9/32'
    """
    more = seen.number - len(seen.named)
    named = ", ".join(seen.named) + (f" and {more} more" if more > 0 else "")
    others = f"; also seen in it: {', '.join(seen.innocents)}" if seen.innocents else ""
    merged = "; they are fewer than the rules ask for, but the IP sets were nearly full" if seen.merged else ""
    return f"{seen.number} of its clients are blocked: {named}{others}{merged}"


def event_detail(event: Event) -> str:
    """Returns why an event happened."""
    if event.outcome == "ended":
        lasted = f"after {roughly(event.until - event.since)}"
        return f"{lasted}, lifted by {event.by}" if event.by else lasted
    others = {
        "stopped": f"{event.rule} would have blocked {plural(event.number, 'known client')}",
        "resumed": f"{event.rule} blocks again",
        "full": f"the {event.comment} sets of {event.response} are {event.number} % full",
        "unreadable": f"{plural(event.number, 'piece')} of the logs cannot be read, more than there were requests",
    }
    if event.evidence is not None:
        return evidence(event.evidence)
    if event.rule == MANUAL:
        made_by = f"by {event.by or 'an operator'}"
        return f"{made_by}: {event.comment}" if event.comment else made_by
    return others.get(event.outcome, f"{plural(event.number, 'further offence')} against {event.rule}")


def few(names: Sequence[str], total: int | None = None) -> str:
    """Returns the first few names, and the number of the others; ``total``: of all, if ``names`` are not all.

    >>> few(["a", "b", "c", "d", "e"]), few(["a", "b", "c", "d"], 100)
    ('a, b, c and 2 more', 'a, b, c and 97 more')
    """
    more = (total or len(names)) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def named(names: Sequence[str]) -> str:
    """Returns the first few names, the number of the others, and the verb.

    >>> named(["a"]), named(["a", "b"])
    ('a is', 'a, b are')
    """
    return f"{few(names)} {'is' if len(names) == 1 else 'are'}"


def commented(comments: Iterable[str]) -> str:
    """Returns the end of a sentence with the comment that all share; empty if they differ or there is none.

    >>> commented(["ticket 4712", "ticket 4712"]), commented(["a", "b"]), commented([""])
    ('; comment: ticket 4712', '', '')
    """
    shared = set(comments)
    return f"; comment: {comment}" if len(shared) == 1 and (comment := shared.pop()) else ""


def roughly(seconds: int) -> str:
    """Returns a duration rounded down to two units.

    >>> roughly(59), roughly(3600), roughly(3725), roughly(90061)
    ('59s', '1h', '1h 2m', '1d 1h')
    """
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, seconds = divmod(seconds, size)
        if number:
            parts.append(f"{number}{unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0s"


def plural(number: int, noun: str) -> str:
    """Returns a number with its noun.

    >>> plural(1, "block"), plural(0, "block")
    ('1 block', '0 blocks')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
