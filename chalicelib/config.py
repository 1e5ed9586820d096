"""Settings of the functions: read once from environment variables, each defined and checked in one place.

Each field of ``Config`` is one setting. Its environment variable is the field's name in capitals.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from chalicelib.core.addresses import NetworkSet, parse_network, span_of
from chalicelib.core.checks import ValueCheck, one_of, pattern, whole
from chalicelib.core.decisions import PROPAGATION_S
from chalicelib.core.durations import DAY_S
from chalicelib.core.ipsets import IpSet
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS, CloudFrontLines
from chalicelib.core.logs.json_fields import READ, parse_json_fields
from chalicelib.core.refusals import REFUSAL_STATUS, STATUSES
from chalicelib.core.responses import SOFTER, Response
from chalicelib.core.sampling import Sampling
from chalicelib.core.tally import LONGEST_RETENTION_S, RETENTION_S

MAX_DIGITS = 18
"""Longest decimal accepted, so that int() stays cheap."""


BUS = r"((arn:[a-z-]+:events:[a-z0-9-]+:\d{12}:event-bus/)?[A-Za-z0-9._/-]{1,256})?"
"""Form of the name or ARN of an event bus (Amazon EventBridge API Reference, "CreateEventBus", "PutEvents")."""


class ConfigError(ValueError):
    """A setting that cannot be used; names the variable, the value and the accepted form."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The definition of a setting."""

    variable: str
    default: str
    """As the environment variable would hold it."""
    accepted: str
    about: str
    read: Callable[[str], Any]
    """Returns the value; raises ValueError, with or without a reason."""
    formerly: str | None = None
    """An earlier name of the variable, read if the present one is not set."""

    def text(self, environment: Mapping[str, str]) -> tuple[str, str]:
        """Returns the variable that is set, and its text; the present name with the default if none is."""
        for variable in (self.variable, self.formerly):
            if variable is not None and variable in environment:
                return variable, environment[variable]
        return self.variable, self.default


def _setting(
    default: str, about: str, accepted: str, read: Callable[[str], Any] = str, formerly: str | None = None
) -> Any:
    return field(
        metadata={"default": default, "about": about, "accepted": accepted, "read": read, "formerly": formerly}
    )


def _text(default: str, about: str, check: ValueCheck) -> Any:
    def read(text: str) -> str:
        if not check.accepts(text):
            raise ValueError
        return text

    return _setting(default, about, check.accepted, read)


def _name(default: str, about: str, accepted: str) -> Any:
    return _text(default, about, pattern(r"(?s:.+)", accepted))


def _choice(about: str, *words: str) -> Any:
    """Defines a setting with the first of ``words`` as its default."""
    return _text(words[0], about, one_of(words, " or ".join(words)))


def _number(default: int, about: str, low: int, high: int, unit: str = "", formerly: str | None = None) -> Any:
    check = whole(low, high)

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > MAX_DIGITS or not check.accepts(int(text)):
            raise ValueError
        return int(text)

    return _setting(str(default), about, f"{unit}{check.accepted}", read, formerly)


def _percentage(default: str, about: str) -> Any:
    def read(text: str) -> float:
        if not re.fullmatch(r"\d{1,3}(\.\d{1,2})?", text, re.ASCII) or not 0 < float(text) <= 100:
            raise ValueError
        return float(text)

    return _setting(default, about, "a percentage from 0.01 to 100, such as 2 or 0.5", read)


def _ip_sets(family: int) -> Any:
    def read(text: str) -> tuple[IpSet, ...]:
        pairs = [pair.strip().partition("/") for pair in text.split(",") if pair]
        if not all(name and id for name, _, id in pairs):
            raise ValueError
        return tuple(IpSet(name, id, family) for name, _, id in pairs)

    about = f"WAF IP sets for IPv{family}; each holds up to 10,000 networks"
    return _setting("", about, "name/id pairs, separated by commas", read)


def _softer_ip_sets() -> Any:
    def read(text: str) -> tuple[IpSet, ...]:
        entries = [tuple(entry.strip().split("/")) for entry in text.split(",") if entry.strip()]
        if not all(len(entry) == 4 and all(entry) and entry[1] in ("v4", "v6") for entry in entries):
            raise ValueError
        sets = [IpSet(name, id, int(family[1]), Response(response)) for response, family, name, id in entries]
        if any(ip_set.response is Response.BLOCK for ip_set in sets):
            raise ValueError("the sets of block belong in IP_SETS_V4 and IP_SETS_V6")
        return tuple(sets)

    about = "WAF IP sets of the responses other than block; a response without any cannot be used"
    accepted = f"response/family/name/id, separated by commas; responses: {', '.join(SOFTER)}; families: v4, v6"
    return _setting("", about, accepted, read)


INSIDE = NetworkSet(
    map(
        parse_network,
        ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
    )
)
"""Networks whose addresses no connection from outside has."""


def _public_networks(text: str) -> tuple[str, ...]:
    networks = [parse_network(part) for part in text.split(",") if part.strip()]
    for network in networks:
        if INSIDE.covers(span_of(str(network))):
            raise ValueError(f"{network} is private: API Gateway sees the public address of a caller")
    return tuple(map(str, networks))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings, checked. Made by ``read_config``."""

    state_table: str = _name(
        "sluice-state", "DynamoDB table of detections, blocks, allowlist and rules", "a table name"
    )
    tally_table: str = _name("sluice-tally", "DynamoDB table of the shards' tally logs", "a table name")
    log_stream: str = _name("sluice-logs", "Kinesis stream that the logs arrive in", "a stream name")
    objects_queue: str = _text(
        "",
        "SQS queue of notifications about new log objects in S3; none if empty",
        pattern(r"[A-Za-z0-9_-]{0,80}", "the name of a standard queue"),
    )
    state_stream_arn: str = _name(
        "arn:aws:dynamodb:us-east-1:000000000000:table/sluice-state/stream/1970-01-01T00:00:00.000",
        "Stream of the state table, which enforce and publish read",
        "an ARN",
    )
    tally_stream_arn: str = _name(
        "arn:aws:dynamodb:us-east-1:000000000000:table/sluice-tally/stream/1970-01-01T00:00:00.000",
        "Stream of the tally table, which evaluate reads",
        "an ARN",
    )
    ip_sets_v4: tuple[IpSet, ...] = _ip_sets(4)
    ip_sets_v6: tuple[IpSet, ...] = _ip_sets(6)
    softer_ip_sets: tuple[IpSet, ...] = _softer_ip_sets()
    block_status: int = _setting(
        str(REFUSAL_STATUS),
        "Status with which the rule group refuses requests, and by which refusals are recognised in logs",
        f"one of {', '.join(STATUSES)}",
        lambda text: int(STATUSES[STATUSES.index(text)]),
    )
    waf_scope: Literal["CLOUDFRONT", "REGIONAL"] = _choice(
        "Scope of the IP sets; CLOUDFRONT ones live in us-east-1", "CLOUDFRONT", "REGIONAL"
    )
    cloudfront_fields: tuple[str, ...] = _setting(
        ",".join(DEFAULT_FIELDS),
        "Fields selected in the real-time log configuration, in any order",
        "names of CloudFront real-time fields, separated by commas, with timestamp and c-ip",
        lambda text: CloudFrontLines([name.strip() for name in text.split(",")]).fields,
    )
    json_fields: tuple[tuple[str, str], ...] = _setting(
        "",
        "Keys of JSON access logs of other programs, by the column that they hold; without any, none are read",
        "pairs such as time=ts,client=request.remote_ip,status=status, with time and client; other columns are "
        + ", ".join(READ),
        parse_json_fields,
    )
    trusted_proxies: tuple[str, ...] = _setting(
        "",
        "Proxies that connect to CloudFront, the load balancer or the server, and whose X-Forwarded-For is trusted",
        "networks, separated by commas",
        lambda text: tuple(str(parse_network(part)) for part in text.split(",") if part.strip()),
    )
    spare_proxies: Literal["yes", "no"] = _choice(
        "Whether rules of a REGIONAL stage spare the addresses of CDNs, CloudFront's among them", "yes", "no"
    )
    sample_rate: int = _number(
        100, "Percentage of requests that CloudFront's real-time log holds; its counts are scaled up", 1, 100
    )
    lateness_s: int = _number(
        120,
        "Usual delay of log lines; a longer one costs another read of the tallies",
        10,
        LONGEST_RETENTION_S,
        "seconds, ",
    )
    retention_s: int = _number(
        RETENTION_S,
        "Age beyond which a request is late and is not counted. Tallies are kept for two hours longer",
        RETENTION_S,
        LONGEST_RETENTION_S,
        "seconds, ",
    )
    stale_after_s: int = _number(
        0,
        "Age beyond which an offence is stale: it is recorded, but causes no block. 0 stands for RETENTION_S",
        0,
        LONGEST_RETENTION_S,
        "seconds, ",
    )
    propagation_s: int = _number(
        PROPAGATION_S,
        "Longest time until AWS WAF applies an update everywhere: refusals within this time of a block's end are "
        "taken for Sluice's own, and a client that is served this long after its block began is published again",
        0,
        3600,
        "seconds, ",
    )
    view_entries: int = _number(
        1_000_000_000,
        "Most (client, slot) pairs that evaluate remembers, 20 to 40 bytes each; fewer if its function has less memory",
        1_000,
        1_000_000_000,
    )
    history_days: int = _number(30, "Time for which the events that 'sluice history' lists are kept", 1, 400, "days, ")
    portraits: Literal["on", "off"] = _choice(
        "Whether detections say what a client's requests looked like: its busiest paths, hosts, user agents and so on",
        "on",
        "off",
    )
    event_bus: str = _text(
        "",
        "EventBridge bus that announcements are sent to, in addition to the log; none if empty",
        pattern(BUS, "the name or ARN of an event bus, such as default"),
    )
    breaker_share: float = _percentage(
        "2",
        "Share of the known clients that a rule may block within ten minutes; one that would block more is stopped. "
        "At most 8,000 of the 20,000 that are remembered",
    )
    breaker_pace: int = _number(
        1000,
        "Most new blocks per minute by a rule until clients have been remembered for a day",
        1,
        1_000_000,
        formerly="BREAKER_BLOCKS_PER_MINUTE",
    )
    service: str = _name("sluice", "Name of this deployment in logs and metrics", "a name")
    admin_auth: Literal["token", "iam"] = _choice(
        "How the admin API authenticates callers: by token, or by AWS IAM's permission to invoke it", "token", "iam"
    )
    admin_api_key: Literal["optional", "required"] = _choice(
        "Whether callers also need an API Gateway key, whose requests count against a usage plan",
        "optional",
        "required",
    )
    api_networks: tuple[str, ...] = _setting(
        "",
        "Networks from which API Gateway accepts calls of the admin API and the page; from everywhere if empty",
        "public networks, separated by commas",
        _public_networks,
    )
    tokens_parameter: str = _name("/sluice/tokens", "SSM parameter with the tokens' hashes", "a parameter name")
    tokens_file: str = _setting("", "File with the tokens' hashes, instead of the parameter", "a path")
    cors_origin: str = _text(
        "",
        "Origin of another page that may call the admin API; none if empty",
        pattern(r"(https?://[a-z0-9.-]+(:\d{1,5})?)?", "an origin such as https://ops.example.com"),
    )
    widest_ipv4: int = _number(16, "Shortest IPv4 prefix that the admin API accepts without force", 1, 32)
    widest_ipv6: int = _number(32, "Shortest IPv6 prefix that the admin API accepts without force", 1, 128)

    @property
    def ip_sets(self) -> tuple[IpSet, ...]:
        return self.ip_sets_v4 + self.ip_sets_v6 + self.softer_ip_sets

    @property
    def history_s(self) -> int:
        return self.history_days * DAY_S

    @property
    def portraits_of(self) -> Sampling | None:
        """The sampling of CloudFront's real-time log, which portraits depend on; None if none are drawn."""
        return Sampling(self.sample_rate) if self.portraits == "on" else None

    @property
    def responses(self) -> frozenset[Response]:
        """The responses that have IP sets."""
        return frozenset((Response.BLOCK, *(ip_set.response for ip_set in self.softer_ip_sets)))

    @property
    def trusted(self) -> NetworkSet:
        return NetworkSet(map(parse_network, self.trusted_proxies))


SETTINGS = {field.name: Setting(variable=field.name.upper(), **field.metadata) for field in fields(Config)}
"""All settings by the name of their field."""


def read_config(environment: Mapping[str, str]) -> Config:
    """Returns the settings of ``environment``; raises ConfigError for the first variable that is wrong.

    >>> read_config({"SAMPLE_RATE": "0"})
    Traceback (most recent call last):
    ...
    chalicelib.config.ConfigError: SAMPLE_RATE='0': expected a whole number from 1 to 100
    """
    values: dict[str, Any] = {}
    for name, setting in SETTINGS.items():
        variable, text = setting.text(environment)
        try:
            values[name] = setting.read(text)
        except ValueError as exc:
            detail = f" ({exc})" if str(exc) else ""
            raise ConfigError(f"{variable}={text!r}: expected {setting.accepted}{detail}") from exc
    values["stale_after_s"] = values["stale_after_s"] or values["retention_s"]
    config = Config(**values)
    for at, ip_set in enumerate(config.ip_sets):
        if any(ip_set.id == other.id for other in config.ip_sets[:at]):
            variable = f"IP_SETS_V{ip_set.family}" if ip_set.response is Response.BLOCK else "SOFTER_IP_SETS"
            raise ConfigError(f"{variable} repeats {ip_set.name}/{ip_set.id}")
    if config.trusted_proxies and "x-forwarded-for" not in config.cloudfront_fields:
        raise ConfigError("TRUSTED_PROXIES is set: CLOUDFRONT_FIELDS must name x-forwarded-for")
    if config.api_networks and config.admin_auth == "iam":
        raise ConfigError(
            "API_NETWORKS is set: ADMIN_AUTH must be token; IAM policies can require aws:SourceIp instead"
        )
    return config
