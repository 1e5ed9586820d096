"""A stack of AWS's "Security Automations for AWS WAF" (2.x to 4.1), as its documents describe it. Pure: reads no files
and makes no calls.

Its documents are what the AWS CLI prints: ``cloudformation describe-stacks``, ``wafv2 get-ip-set`` and ``get-web-acl``,
``dynamodb scan`` of the table with the ends of allowed and denied addresses; and its own two configuration files. Each
is recognised by its content.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Document = Any
"""Decoded JSON."""


@dataclass(frozen=True, slots=True)
class OldSet:
    """An IP set."""

    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Retention:
    """Addresses that the stack removes from an IP set at a certain time."""

    ip_set: str
    addresses: frozenset[str]
    expires_at: int
    """Epoch seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OldStack:
    """Everything that the documents say about a stack."""

    name: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]
    waf_log_conf: Document | None
    app_log_conf: Document | None
    """The two configuration files, each an object with an object ``general``; None for one that is missing."""
    ip_sets: tuple[OldSet, ...]
    retentions: tuple[Retention, ...]
    acl_rules: tuple[Mapping[str, Any], ...]
    """Rules of the web ACL."""
    unknown: tuple[str, ...]
    """Names of documents that are none of these."""


class OldStackError(ValueError):
    """Documents that describe no stack."""


def old_stack(documents: Mapping[str, Document], name: str | None = None) -> OldStack:
    """Returns the stack that ``documents``, by their names, describe. ``name`` selects one of several stacks.

    Raises OldStackError if they describe none, or several.
    """
    stacks: dict[str, Mapping[str, Any]] = {}
    confs: dict[str, dict[str, Document]] = {"requestThreshold": {}, "errorThreshold": {}}
    ip_sets, retentions, acl_rules, unknown = [], [], [], []
    for title, document in documents.items():
        match document:
            case {"Stacks": [*found]}:
                stacks |= {stack.get("StackName", title): stack for stack in found}
            case {"IPSet": {"Name": str(set_name), "Addresses": [*addresses]}}:
                ip_sets.append(OldSet(set_name, tuple(map(str, addresses))))
            case {"WebACL": {"Rules": [*rules]}}:
                acl_rules += rules
            case {"Items": [*items]}:
                retentions += list(map(_retention, items))
            case {"general": {**general}} if kind := _kind(title, general):
                confs[kind][title] = document
            case _:
                unknown.append(title)
    if name is None and len(stacks) > 1:
        raise OldStackError(
            f"the documents describe several stacks: {', '.join(sorted(stacks))}; name one with --stack"
        )
    stack = stacks.get(name, {}) if name is not None else next(iter(stacks.values()), {})
    if not stack and not any(confs.values()):
        raise OldStackError(
            "there is neither a stack (the output of 'aws cloudformation describe-stacks') nor one of its files, "
            "NAME-waf_log_conf.json and NAME-app_log_conf.json"
        )
    name = name or stack.get("StackName") or _stem(next(iter({**confs["requestThreshold"], **confs["errorThreshold"]})))
    waf, app = (_of(name, confs[kind]) for kind in ("requestThreshold", "errorThreshold"))
    return OldStack(
        name=name,
        parameters=_pairs(stack.get("Parameters", ()), "Parameter"),
        outputs=_pairs(stack.get("Outputs", ()), "Output"),
        waf_log_conf=waf,
        app_log_conf=app,
        ip_sets=tuple(ip_sets),
        retentions=tuple(filter(None, retentions)),
        acl_rules=tuple(acl_rules),
        unknown=tuple(unknown),
    )


def _kind(title: str, general: Mapping[Any, Any]) -> str | None:
    """Returns the threshold that a configuration file is about, by its keys or else by its name."""
    for key, mark in (("requestThreshold", "waf_log_conf"), ("errorThreshold", "app_log_conf")):
        if mark in title or (key in general and "log_conf" not in title):
            return key
    return None


def _of(name: str, files: Mapping[str, Document]) -> Document | None:
    """Returns the file of the stack ``name``, or the only file if its name is another; None if there is no file. Raises
    OldStackError if there are several others."""
    own = [document for title, document in files.items() if _stem(title) == name]
    if own:
        return own[0]
    if len(files) > 1:
        raise OldStackError(f"several files and none is of stack {name}: {', '.join(files)}")
    return next(iter(files.values()), None)


def _stem(title: str) -> str:
    """Returns the stack's name in the name of its file.

    >>> _stem("edge-prod-waf_log_conf.json")
    'edge-prod'
    """
    return title.removesuffix(".json").removesuffix("-waf_log_conf").removesuffix("-app_log_conf")


def _pairs(pairs: Iterable[Mapping[str, str]], kind: str) -> dict[str, str]:
    return {pair[f"{kind}Key"]: pair.get(f"{kind}Value", "") for pair in pairs if f"{kind}Key" in pair}


def _retention(item: Mapping[str, Any]) -> Retention | None:
    """Returns an item of the stack's table of ends; None for another item."""
    match item:
        case {
            "IPSetName": {"S": str(name)},
            "ExpirationTime": {"N": str(expires_at)},
            "IPAdressList": {"L": [*addresses]},
        } if expires_at.isdecimal():
            return Retention(name, frozenset(each["S"] for each in addresses if "S" in each), int(expires_at))
    return None
