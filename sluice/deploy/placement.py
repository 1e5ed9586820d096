"""The place of Sluice's rules among those of a web ACL, and how to change it. Pure: no calls.

AWS WAF evaluates the rules of a web ACL by priority, the lowest number first, until one ends the evaluation. Numbers
are unique, so other rules may have to be given greater ones to make room; their order never changes. Source: AWS WAF
Developer Guide, "Setting rule priority" and "Rule action".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from chalicelib.core.state.operators import EarlierRule, Placed
from sluice.deploy.rule_group import WafRule
from sluice.deploy.stage import Refusal

_EFFECTS = {
    "Allow": "allows requests, also those of blocked clients",
    "Block": "blocks requests",
    "Captcha": "asks for a token",
    "Challenge": "asks for a token",
    "Monetize": "asks for a payment",
}
"""Effect of a rule on the requests that it matches, by its action, if it may end their evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The place of Sluice's rules in one web ACL, as a plan leaves it."""

    web_acl: str
    """Its name."""
    plan: str
    """Flat-rate plan that it belongs to; empty for none."""
    priority: int
    """Priority of the first of Sluice's rules."""
    place: int
    """1 if it is evaluated first."""
    rules: int
    """Rules in the web ACL."""
    before: Sequence[EarlierRule]
    renumbered: Sequence[tuple[str, int, int]]
    """Rules of other owners that get a new priority: name, priority before, priority after."""
    wcu_before: int
    wcu_after: int


def effect_of(rule: WafRule) -> str:
    """Returns how a rule may end the evaluation of a request; empty if it never does."""
    if "OverrideAction" in rule:
        return "" if "Count" in rule["OverrideAction"] else "may end it, as a rule group"
    return next((effect for action, effect in _EFFECTS.items() if action in rule.get("Action", {})), "")


def predecessors(rules: Sequence[WafRule], own: Sequence[str]) -> list[EarlierRule]:
    """Returns the rules that may end evaluation before the first rule named in ``own``, in order; none without one."""
    first = min((rule["Priority"] for rule in rules if rule["Name"] in own), default=0)
    return [
        EarlierRule(
            name=rule["Name"],
            priority=rule["Priority"],
            effect=effect,
            may_allow="Action" not in rule or "Allow" in rule["Action"],
        )
        for rule in sorted(rules, key=itemgetter("Priority"))
        if rule["Priority"] < first and (effect := effect_of(rule))
    ]


def place_of(web_acl: str, rules: Sequence[WafRule], own: Sequence[str]) -> Placed:
    """Returns where the first of the web ACL's ``rules`` stands whose name is in ``own``, and what precedes it."""
    first = min((rule["Priority"] for rule in rules if rule["Name"] in own), default=None)
    place = 0 if first is None else 1 + sum(rule["Priority"] < first for rule in rules)
    return Placed(web_acl=web_acl, place=place, rules=len(rules), before=tuple(predecessors(rules, own)))


def free_priority(taken: set[int], number: int = 1) -> int:
    """Returns the first of ``number`` free priorities before all others, so that blocked clients cost no further rules.

    If there are not so many, returns the first of as many free numbers in a row.

    >>> free_priority({5, 6}), free_priority({0, 1, 3}), free_priority(set())
    (4, 2, 0)
    >>> free_priority({5, 6}, 2), free_priority({1, 3, 5}, 2)
    (3, 6)
    """
    first = min(taken, default=number)
    if first >= number:
        return first - number
    starts = range(max(taken) + 2)
    return next(start for start in starts if taken.isdisjoint(range(start, start + number)))


def first_priority(others: Sequence[WafRule], number: int) -> int:
    """Returns the priority from which ``number`` rules precede ``others``, which may have to make room."""
    return max(0, min((rule["Priority"] for rule in others), default=number) - number)


def making_place(others: Sequence[WafRule], first: int, number: int) -> list[WafRule]:
    """Returns ``others`` in their order, with ``number`` priorities free from ``first``. Only rules in the way move.

    >>> rules = [{"Priority": 0}, {"Priority": 1}, {"Priority": 5}]
    >>> [rule["Priority"] for rule in making_place(rules, 0, 2)]
    [2, 3, 5]
    >>> [rule["Priority"] for rule in making_place(rules, 3, 2)]
    [0, 1, 5]
    """
    placed: list[WafRule] = []
    next_free = first + number
    for rule in sorted(others, key=itemgetter("Priority")):
        if first <= rule["Priority"] < next_free:
            placed.append({**rule, "Priority": next_free})
            next_free += 1
        else:
            placed.append(rule)
    return placed


def restored(others: Sequence[WafRule], first: int, former: Sequence[int]) -> list[WafRule]:
    """Returns ``others`` after the priorities ``former`` are given back to the rules that follow ``first``.

    Rules that were added or removed meanwhile may get the number of another, but never another's place.
    """
    in_order = sorted(others, key=itemgetter("Priority"))
    ahead = [rule for rule in in_order if rule["Priority"] < first]
    following = in_order[len(ahead) :]
    given = [number for number in former if not ahead or number > ahead[-1]["Priority"]]
    moved = [
        {**rule, "Priority": min(number, rule["Priority"])} for rule, number in zip(following, given, strict=False)
    ]
    return [*ahead, *moved, *following[len(moved) :]]


def check_free(others: Sequence[WafRule], first: int, number: int, web_acl: str) -> None:
    """Raises Refusal if one of ``number`` priorities from ``first`` is taken."""
    taken = [rule for rule in others if first <= rule["Priority"] < first + number]
    if taken:
        names = ", ".join(f"{rule['Name']} ({rule['Priority']})" for rule in taken)
        raise Refusal(
            f"--priority {first}: web ACL {web_acl} has {names} there, and needs {number} free from it. Choose another "
            "number, or add --renumber to move other rules up"
        )
