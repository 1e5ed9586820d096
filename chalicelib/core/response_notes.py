"""Notes for operators on the responses of a rule that is about to be used.

A challenge and a puzzle are pages for browsers: AWS WAF sends them in answer to a GET for HTML over HTTPS. Any other
request without a token is refused by their status alone (AWS WAF Developer Guide, "CAPTCHA and Challenge in AWS WAF").
"""

from collections.abc import Iterable, Iterator

from chalicelib.core.responses import Response
from chalicelib.core.rules import Rule
from chalicelib.core.scope import Scope

_STATUSES = {Response.CHALLENGE: "202, which looks like success", Response.CAPTCHA: "405"}
"""Status of a request without a token, by response that asks for one."""

_API_SEGMENTS = frozenset(("api", "apis", "graphql", "rest", "rpc", "webhook", "webhooks"))
"""Segments of the paths of programs, in lower case."""


def response_notes(rules: Iterable[Rule]) -> Iterator[str]:
    """Yields a sentence about each response of a rule that cannot work as meant, and says what happens instead."""
    for rule in rules:
        for response, status in _STATUSES.items():
            if response not in rule.respond:
                continue
            if rule.scope.method and "GET" not in rule.scope.method:
                methods = " and ".join(rule.scope.method)
                yield (
                    f"Rule {rule.name}: {response} asks only clients that GET a page. A {methods} from a client "
                    f"without a token is answered with {status}, and no page: a person must open another page first, "
                    "and send it again; a program never passes."
                )
            elif _is_for_programs(rule.scope):
                yield (
                    f"Rule {rule.name}: {response} asks only browsers. A program without a token is answered with "
                    f"{status}, and cannot pass: use block, whose status it understands."
                )
        if rule.respond[-1] in _STATUSES:
            yield (
                f"Rule {rule.name}: {rule.respond[-1]} is its last response. A client that passes it has a token for "
                "minutes, whatever its rate of requests: add block to the ladder to stop one that continues."
            )


def _is_for_programs(scope: Scope) -> bool:
    paths = [*scope.path, *scope.path_prefix]
    programs = [not _API_SEGMENTS.isdisjoint(path.lower().split("/")) for path in paths]
    programs += [host.startswith("api.") for host in scope.host]
    return bool(programs) and all(programs)
