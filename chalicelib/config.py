"""Settings: read once from environment variables, each with a type, a default and a range."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from chalicelib.core.addresses import NetworkSet, parse_network
from chalicelib.core.ipsets import IpSet
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS, CloudFrontLines

DIGITS = 18
"""Of a number, at most."""


class ConfigError(ValueError):
    """A setting that cannot be used; names the variable, the value and the accepted form."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable."""

    variable: str
    read: Callable[[str], Any]
    accepted: str
    about: str
    default: str | None = None
    """As it would be written; None if there is none and the variable has to be set."""


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > DIGITS:
            raise ValueError
        number = int(text)
        if not low <= number <= high:
            raise ValueError
        return number

    return read


def _name(text: str) -> str:
    if not text:
        raise ValueError
    return text


def _fields(text: str) -> tuple[str, ...]:
    return CloudFrontLines([name.strip() for name in text.split(",")]).fields


def _networks(text: str) -> tuple[str, ...]:
    return tuple(str(parse_network(part)) for part in text.split(",") if part.strip())


def _ip_sets(family: int) -> Callable[[str], tuple[IpSet, ...]]:
    def read(text: str) -> tuple[IpSet, ...]:
        sets = []
        for pair in filter(None, text.split(",")):
            name, _, id = pair.strip().partition("/")
            if not name or not id:
                raise ValueError
            sets.append(IpSet(name, id, family))
        return tuple(sets)

    return read


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    return read


def _origin(text: str) -> str:
    if text and re.fullmatch(r"https?://[a-z0-9.-]+(:\d{1,5})?", text) is None:
        raise ValueError
    return text


SETTINGS: dict[str, Setting] = {
    "state_table": Setting(
        "STATE_TABLE",
        _name,
        "a table name",
        "DynamoDB table of detections, blocks, allowlist and rules",
        "sluice-state",
    ),
    "tally_table": Setting(
        "TALLY_TABLE", _name, "a table name", "DynamoDB table of the shards' tally logs", "sluice-tally"
    ),
    "log_stream": Setting(
        "LOG_STREAM", _name, "a stream name", "Kinesis stream that the logs arrive in", "sluice-logs"
    ),
    "state_stream_arn": Setting(
        "STATE_STREAM_ARN",
        _name,
        "an ARN",
        "Stream of the state table, which enforce listens to",
        "arn:aws:dynamodb:us-east-1:000000000000:table/sluice-state/stream/1970-01-01T00:00:00.000",
    ),
    "ip_sets_v4": Setting(
        "IP_SETS_V4",
        _ip_sets(4),
        "name/id pairs, separated by commas",
        "WAF IP sets for IPv4; 10,000 networks fit each",
        "",
    ),
    "ip_sets_v6": Setting(
        "IP_SETS_V6",
        _ip_sets(6),
        "name/id pairs, separated by commas",
        "WAF IP sets for IPv6; 10,000 networks fit each",
        "",
    ),
    "waf_scope": Setting(
        "WAF_SCOPE",
        _one_of("CLOUDFRONT", "REGIONAL"),
        "CLOUDFRONT or REGIONAL",
        "Scope of the IP sets; CLOUDFRONT ones live in us-east-1",
        "CLOUDFRONT",
    ),
    "cloudfront_fields": Setting(
        "CLOUDFRONT_FIELDS",
        _fields,
        "names of CloudFront real-time fields, separated by commas, with timestamp and c-ip",
        "Fields selected in the real-time log configuration, in any order",
        ",".join(DEFAULT_FIELDS),
    ),
    "trusted_proxies": Setting(
        "TRUSTED_PROXIES",
        _networks,
        "networks, separated by commas",
        "Proxies in front of CloudFront whose X-Forwarded-For is believed",
        "",
    ),
    "sample_rate": Setting(
        "SAMPLE_RATE",
        _whole(1, 100),
        "a whole number from 1 to 100",
        "Percentage of requests that the log holds; counts are scaled up by it",
        "100",
    ),
    "lateness_s": Setting(
        "LATENESS_S",
        _whole(10, 3600),
        "seconds, a whole number from 10 to 3600",
        "How late log lines usually arrive; later ones cost a re-read of the tallies",
        "300",
    ),
    "view_entries": Setting(
        "VIEW_ENTRIES",
        _whole(1_000, 20_000_000),
        "a whole number from 1000 to 20000000",
        "(client, slot) pairs a container remembers, about 100 bytes each; past it the quietest clients are dropped",
        "1000000",
    ),
    "breaker_blocks_per_minute": Setting(
        "BREAKER_BLOCKS_PER_MINUTE",
        _whole(1, 1_000_000),
        "a whole number from 1 to 1000000",
        "New blocks within a minute that open the circuit breaker",
        "1000",
    ),
    "service": Setting("SERVICE", _name, "a name", "Name of this deployment in logs and metrics", "sluice"),
    "admin_auth": Setting(
        "ADMIN_AUTH",
        _one_of("token", "iam"),
        "token or iam",
        "Who may use the admin API: holders of a token, or whom AWS IAM lets invoke it",
        "token",
    ),
    "admin_api_key": Setting(
        "ADMIN_API_KEY",
        _one_of("optional", "required"),
        "optional or required",
        "Whether the admin API asks for an API Gateway key as well, which counts against a usage plan",
        "optional",
    ),
    "tokens_parameter": Setting(
        "TOKENS_PARAMETER", _name, "a parameter name", "SSM parameter with the tokens' hashes", "/sluice/tokens"
    ),
    "tokens_file": Setting("TOKENS_FILE", str, "a path", "File with the tokens' hashes, instead of the parameter", ""),
    "cors_origin": Setting(
        "CORS_ORIGIN",
        _origin,
        "an origin such as https://ops.example.com",
        "Origin of another page that may call the admin API; none if empty",
        "",
    ),
    "widest_ipv4": Setting(
        "WIDEST_IPV4",
        _whole(1, 32),
        "a whole number from 1 to 32",
        "Shortest IPv4 prefix that the admin API takes without force",
        "16",
    ),
    "widest_ipv6": Setting(
        "WIDEST_IPV6",
        _whole(1, 128),
        "a whole number from 1 to 128",
        "Shortest IPv6 prefix that the admin API takes without force",
        "32",
    ),
}


@dataclass(frozen=True, slots=True)
class Config:
    """What the environment says. Made by ``read``."""

    state_table: str
    tally_table: str
    log_stream: str
    state_stream_arn: str
    ip_sets_v4: tuple[IpSet, ...]
    ip_sets_v6: tuple[IpSet, ...]
    waf_scope: Literal["CLOUDFRONT", "REGIONAL"]
    cloudfront_fields: tuple[str, ...]
    trusted_proxies: tuple[str, ...] = field(default=())
    sample_rate: int = 100
    lateness_s: int = 300
    view_entries: int = 1_000_000
    breaker_blocks_per_minute: int = 1000
    service: str = "sluice"
    admin_auth: Literal["token", "iam"] = "token"
    admin_api_key: Literal["optional", "required"] = "optional"
    tokens_parameter: str = "/sluice/tokens"
    tokens_file: str = ""
    cors_origin: str = ""
    widest_ipv4: int = 16
    widest_ipv6: int = 32

    @property
    def ip_sets(self) -> tuple[IpSet, ...]:
        return self.ip_sets_v4 + self.ip_sets_v6

    @property
    def trusted(self) -> NetworkSet:
        return NetworkSet(map(parse_network, self.trusted_proxies))


def read_config(environment: Mapping[str, str]) -> Config:
    """Raises ConfigError for the first variable that is missing or wrong.

    >>> read_config({"SAMPLE_RATE": "0"})
    Traceback (most recent call last):
    ...
    chalicelib.config.ConfigError: SAMPLE_RATE='0': expected a whole number from 1 to 100
    """
    values: dict[str, Any] = {}
    for name, setting in SETTINGS.items():
        text = environment.get(setting.variable, setting.default)
        if text is None:
            raise ConfigError(f"{setting.variable} is not set: expected {setting.accepted}")
        try:
            values[name] = setting.read(text)
        except ValueError as exc:
            detail = f" ({exc})" if str(exc) else ""
            raise ConfigError(f"{setting.variable}={text!r}: expected {setting.accepted}{detail}") from exc
    sets = (*values["ip_sets_v4"], *values["ip_sets_v6"])
    for at, ip_set in enumerate(sets):
        if any(ip_set.id == other.id for other in sets[:at]):
            raise ConfigError(f"IP_SETS_V{ip_set.family} names {ip_set.name}/{ip_set.id}, which is named twice")
    if values["trusted_proxies"] and "x-forwarded-for" not in values["cloudfront_fields"]:
        raise ConfigError("TRUSTED_PROXIES is set: CLOUDFRONT_FIELDS must name x-forwarded-for")
    return Config(**values)
