"""Settings: a wrong one stops the start with a message that names variable, value and accepted form."""

import re

import pytest

from chalicelib.config import SETTINGS, ConfigError, read_config
from chalicelib.core.ipsets import IpSet
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS
from chalicelib.core.responses import Response


def test_every_setting_has_a_default() -> None:
    config = read_config({})
    assert config.cloudfront_fields == DEFAULT_FIELDS
    assert (config.ip_sets, config.sample_rate, config.waf_scope) == ((), 100, "CLOUDFRONT")
    assert not config.trusted


def test_settings_are_read() -> None:
    config = read_config(
        {
            "STATE_TABLE": "s",
            "TALLY_TABLE": "t",
            "LOG_STREAM": "l",
            "IP_SETS_V4": "a/1, b/2",
            "IP_SETS_V6": "c/3,",
            "WAF_SCOPE": "REGIONAL",
            "CLOUDFRONT_FIELDS": "c-ip, x-forwarded-for,timestamp",
            "TRUSTED_PROXIES": "192.0.2.0/24, 2001:db8::1",
            "SAMPLE_RATE": "1",
            "LATENESS_S": "3600",
            "VIEW_ENTRIES": "1000",
            "BREAKER_SHARE": "0.25",
            "BREAKER_PACE": "1000000",
            "UNKNOWN": "is not ours",
        }
    )
    assert config.ip_sets == (IpSet("a", "1", 4), IpSet("b", "2", 4), IpSet("c", "3", 6))
    assert config.cloudfront_fields == ("timestamp", "c-ip", "x-forwarded-for")
    assert config.trusted_proxies == ("192.0.2.0/24", "2001:db8::1/128")
    assert config.trusted.contains(bytes([192, 0, 2, 9]))
    assert (config.sample_rate, config.lateness_s, config.view_entries) == (1, 3600, 1000)


@pytest.mark.parametrize(
    ("environment", "stale_after_s"),
    [({}, 3600), ({"RETENTION_S": "93600"}, 93_600), ({"STALE_AFTER_S": "60", "RETENTION_S": "7200"}, 60)],
)
def test_an_offence_is_stale_after_the_retention_unless_another_time_is_set(
    environment: dict[str, str], stale_after_s: int
) -> None:
    assert read_config(environment).stale_after_s == stale_after_s


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("STATE_TABLE", ""),
        ("EVENT_BUS", "ops bus"),
        ("EVENT_BUS", "arn:aws:sns:us-east-1:111122223333:ops"),
        ("TALLY_TABLE", ""),
        ("LOG_STREAM", ""),
        ("STATE_STREAM_ARN", ""),
        ("IP_SETS_V4", "name"),
        ("IP_SETS_V4", "name/"),
        ("IP_SETS_V4", "/id"),
        ("IP_SETS_V4", " , "),
        ("IP_SETS_V6", "a/1,b"),
        ("SOFTER_IP_SETS", "challenge/v4/a"),
        ("SOFTER_IP_SETS", "challenge/v5/a/1"),
        ("SOFTER_IP_SETS", "ban/v4/a/1"),
        ("SOFTER_IP_SETS", "block/v4/a/1"),
        ("BLOCK_STATUS", "200"),
        ("WAF_SCOPE", "cloudfront"),
        ("WAF_SCOPE", ""),
        ("CLOUDFRONT_FIELDS", ""),
        ("CLOUDFRONT_FIELDS", "timestamp"),
        ("CLOUDFRONT_FIELDS", "timestamp,c-ip,c-ip"),
        ("CLOUDFRONT_FIELDS", "timestamp,c-ip,client"),
        ("TRUSTED_PROXIES", "192.0.2.1/24"),
        ("TRUSTED_PROXIES", "example.com"),
        ("API_NETWORKS", "198.51.100.1/24"),
        ("API_NETWORKS", "8.8.8.0/24,10.0.0.0/8"),
        ("SAMPLE_RATE", "0"),
        ("SAMPLE_RATE", "101"),
        ("SAMPLE_RATE", "50%"),
        ("SAMPLE_RATE", "1_0"),
        ("SAMPLE_RATE", ""),
        ("SAMPLE_RATE", "\u0661"),
        ("SAMPLE_RATE", "9" * 5000),
        ("LATENESS_S", "9"),
        ("LATENESS_S", "-10"),
        ("LATENESS_S", "93601"),
        ("RETENTION_S", "3599"),
        ("RETENTION_S", "93601"),
        ("STALE_AFTER_S", "93601"),
        ("VIEW_ENTRIES", "999"),
        ("VIEW_ENTRIES", "1e6"),
        ("BREAKER_SHARE", "0"),
        ("BREAKER_SHARE", "0.001"),
        ("BREAKER_SHARE", "100.01"),
        ("BREAKER_SHARE", "2%"),
        ("BREAKER_SHARE", "nan"),
        ("BREAKER_PACE", "0"),
    ],
)
def test_a_bad_value_is_refused_with_variable_value_and_accepted_form(variable: str, value: str) -> None:
    (setting,) = (setting for setting in SETTINGS.values() if setting.variable == variable)
    with pytest.raises(ConfigError, match=re.escape(f"{variable}={value!r}: expected {setting.accepted}")):
        read_config({variable: value})


def test_the_pace_of_breakers_is_also_read_under_its_former_name() -> None:
    assert read_config({"BREAKER_BLOCKS_PER_MINUTE": "50"}).breaker_pace == 50
    assert read_config({"BREAKER_BLOCKS_PER_MINUTE": "50", "BREAKER_PACE": "60"}).breaker_pace == 60
    with pytest.raises(ConfigError, match="BREAKER_BLOCKS_PER_MINUTE='0': expected a whole number"):
        read_config({"BREAKER_BLOCKS_PER_MINUTE": "0"})


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        pytest.param(
            {"API_NETWORKS": "8.8.8.0/24", "ADMIN_AUTH": "iam"},
            "API_NETWORKS is set: ADMIN_AUTH must be token; IAM policies can require aws:SourceIp instead",
            id="networks with IAM",
        ),
        pytest.param(
            {"TRUSTED_PROXIES": "192.0.2.1", "CLOUDFRONT_FIELDS": "timestamp,c-ip"},
            "TRUSTED_PROXIES is set: CLOUDFRONT_FIELDS must name x-forwarded-for",
            id="proxies without their field",
        ),
        pytest.param({"IP_SETS_V4": "a/1,b/1"}, "IP_SETS_V4 repeats b/1", id="a set twice"),
        pytest.param({"IP_SETS_V4": "a/1", "IP_SETS_V6": "a/1"}, "IP_SETS_V6 repeats a/1", id="for both"),
        pytest.param(
            {"TRUSTED_PROXIES": "192.0.2.1/24"},
            "TRUSTED_PROXIES='192.0.2.1/24': expected networks, separated by commas ('192.0.2.1/24' has host bits set; "
            "the network is 192.0.2.0/24)",
            id="host bits",
        ),
        pytest.param(
            {"CLOUDFRONT_FIELDS": "timestamp,c-ip,client"},
            "CLOUDFRONT_FIELDS='timestamp,c-ip,client': expected names of CloudFront real-time fields, separated by "
            "commas, with timestamp and c-ip (unknown CloudFront real-time field 'client')",
            id="an unknown field",
        ),
    ],
)
def test_the_message_says_what_is_wrong(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(environment)
    assert str(caught.value) == message


def test_the_ip_sets_of_the_other_responses_are_named_with_response_and_family() -> None:
    config = read_config({"IP_SETS_V4": "a/1", "SOFTER_IP_SETS": "challenge/v4/b/2, slow/v6/c/3"})
    softer = IpSet("b", "2", 4, Response.CHALLENGE), IpSet("c", "3", 6, Response.SLOW)
    assert config.ip_sets == (IpSet("a", "1", 4), *softer)
    assert config.responses == {Response.BLOCK, Response.CHALLENGE, Response.SLOW}
