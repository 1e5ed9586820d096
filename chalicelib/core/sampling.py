"""Sampled logs: CloudFront's real-time log may hold only a share of the requests. Every other log holds all of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from chalicelib.core.logs.requests import Source
from chalicelib.core.measures import Measure
from chalicelib.core.rules import Action, Rule

FEWEST_LOGGED = 10
"""Fewest logged requests that a limit must amount to; below, chance decides which clients exceed it."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """The share of requests that a log holds.

    >>> Sampling(10).made(6), Sampling(10).logged(50)
    (60, 5)
    """

    percent: int = 100
    """1 to 100."""

    def of(self, source: Source) -> "Sampling":
        """Returns the sampling of a log, given that of CloudFront's real-time log.

        >>> Sampling(10).of(Source.CLOUDFRONT).percent, Sampling(10).of(Source.WAF).percent
        (10, 100)
        """
        return self if source is Source.CLOUDFRONT else WHOLE_LOG

    def made(self, logged: int) -> int:
        """Returns the number of requests that ``logged`` requests in the log stand for, rounded down."""
        return logged * 100 // self.percent

    def logged(self, made: int) -> int:
        """Returns the number of requests in the log that ``made`` requests leave there, rounded down."""
        return made * self.percent // 100

    def shows(self, limit: int) -> bool:
        """Returns whether the log holds enough requests to tell which clients exceed ``limit``.

        It always does for a limit of 0: one logged request exceeds it.
        """
        return self.percent == 100 or limit == 0 or self.logged(limit) >= FEWEST_LOGGED

    def applied(self, rule: Rule) -> Rule:
        """Returns the rule as it applies to the log: if the log is too small a sample for it, it only counts.

        Of bytes and time, any sample is too small: a single response may hold most of them. So it is of different
        values, because it does not tell how many others there are.
        """
        is_shown = self.shows(rule.limit) if rule.measure is Measure.REQUESTS else self.percent == 100
        return rule if is_shown else replace(rule, action=Action.COUNT)


WHOLE_LOG = Sampling()


def sampling_notes(rules: Iterable[Rule], sampling: Sampling) -> Iterator[str]:
    """Yields a sentence about each rule that would block but, in CloudFront's real-time log, only counts."""
    for rule in rules:
        if rule.action is sampling.applied(rule).action:
            continue
        if rule.measure is not Measure.REQUESTS:
            measured = (
                f"the different {rule.measure.replace('_', ' ')}" if rule.measure.is_distinct else f"the {rule.measure}"
            )
            because = "" if rule.measure.is_distinct else ", because a single response may hold most"
            yield (
                f"Rule {rule.name} only counts in the CloudFront real-time log: a sample of {sampling.percent} % does "
                f"not show {measured} of a client{because}."
            )
        else:
            least = -(-FEWEST_LOGGED * 100 // sampling.percent)
            yield (
                f"Rule {rule.name} only counts in the CloudFront real-time log: at a sample rate of "
                f"{sampling.percent} %, a limit of {rule.limit} is {sampling.logged(rule.limit)} logged requests, too "
                f"few to show who exceeds it. Raise the limit to {least} or more, or the sample rate."
            )
