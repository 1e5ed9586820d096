"""Portraits: who is drawn, what is shown, and what it can cost at most."""

from collections.abc import Sequence

import msgspec
import pytest

from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.requests import Decoded
from chalicelib.core.portraits import (
    DRAWN_AGAIN_MS,
    LARGEST_PACKED,
    MOST_CLIENTS,
    MOST_REMEMBERED,
    MOST_VALUES,
    REMEMBERED_MS,
    SHOWN,
    Drawn,
    Portrait,
    Portraitist,
    RecentPortraits,
    pack_portraits,
    unpack_portraits,
)
from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.sampling import Sampling
from chalicelib.core.tally import Tallier
from tests.support.records import cloudfront, waf_text

NOW_MS = 1_760_000_000_123
BURST = parse_rules('[[rule]]\nname = "burst"\nlimit = 50\nwindow = "5s"\n')
CLIENT = "203.0.113.9"
HOSTILE = "\x1b[2J\N{RIGHT-TO-LEFT OVERRIDE}\r\n\t'\"<script>=cmd|\N{GRINNING FACE}\x00"


class Studio:
    """One container's portraitist."""

    def __init__(self, rules: RuleSet = BURST, sample_rate: int = 100) -> None:
        self._rules = rules
        self._tallier = Tallier(rules.meters())
        self._portraitist = Portraitist(rules.rules, Sampling(sample_rate))

    def draw(self, records: Sequence[bytes], now_ms: int = NOW_MS) -> dict[str, Portrait]:
        return {each.network: each.portrait for each in self.drawn(records, now_ms)}

    def drawn(self, records: Sequence[bytes], now_ms: int = NOW_MS) -> list[Drawn]:
        decoded: Decoded = BatchDecoder().decode(records, self._rules.columns().union(SHOWN))
        tally = self._tallier.tally(decoded.requests)
        return self._portraitist.draw(decoded.requests, tally, self._tallier.memos, now_ms)


def lines(number: int, client: str = CLIENT, **cells: str) -> list[bytes]:
    return [cloudfront(c_ip=client, **cells)] * number


def test_a_portrait_shows_what_most_requests_of_the_client_were() -> None:
    records = lines(8, cs_uri_stem="/login", cs_method="POST", sc_status="401")
    records += lines(4, cs_uri_stem="/a", cs_user_agent="Mozilla/5.0%20(X11)")
    assert Studio().draw(records + lines(1, "192.0.2.1")) == {
        f"{CLIENT}/32": Portrait(
            requests=12,
            lines={"POST www.example.com/login 401": 8, "GET www.example.com/a 200": 4},
            paths={"/login": 8, "/a": 4},
            hosts={"www.example.com": 12},
            methods={"POST": 8, "GET": 4},
            statuses={"401": 8, "200": 4},
            user_agents={"curl/8.5.0": 8, "Mozilla/5.0 (X11)": 4},
        )
    }


def test_a_waf_log_shows_the_country_and_the_autonomous_system() -> None:
    (portrait,) = Studio().draw([waf_text(clientAsn=64500)] * 9).values()
    assert (portrait.lines, portrait.countries, portrait.asns) == (
        {"POST www.example.com/login": 9},
        {"US": 9},
        {"64500": 9},
    )
    assert portrait.user_agents == {"curl/8.5.0": 9}


def test_no_query_string_session_id_or_header_that_may_hold_a_secret_is_in_a_portrait() -> None:
    secret = "s3cret"
    records = lines(6, cs_uri_stem=f"/a;jsessionid={secret}?token={secret}", cs_host=f"user:{secret}@example.com")
    headers = [{"name": name, "value": secret} for name in ("Cookie", "Authorization", "Referer")]
    records += [waf_text(headers=headers, args=f"token={secret}", clientIp="192.0.2.7")] * 6
    drawn = Studio().drawn(records)
    assert len(drawn) == 2
    assert secret not in msgspec.json.encode(drawn).decode()


def test_only_clients_that_a_batch_brings_close_to_a_limit_are_drawn() -> None:
    records = lines(4, "192.0.2.1") + lines(5, "192.0.2.2") + lines(60, CLIENT)
    assert list(Studio().draw(records)) == [f"{CLIENT}/32", "192.0.2.2/32"]


def test_a_limit_counts_as_it_applies_to_a_sampled_log() -> None:
    records = lines(2, "192.0.2.2")
    assert Studio().draw(records) == {}
    assert list(Studio(sample_rate=40).draw(records)) == ["192.0.2.2/32"]


def test_the_clients_closest_to_any_limit_are_drawn_first_and_the_others_in_later_batches() -> None:
    rules = BURST.text + '[[rule]]\nname = "login"\nlimit = 5\nwindow = "1m"\nscope = { path = ["/login"] }\n'
    studio = Studio(parse_rules(rules))
    records = lines(3, cs_uri_stem="/login")
    for host in range(1, 8):
        records += lines(5 + host, f"192.0.2.{host}")
    first, later = list(studio.draw(records)), list(studio.draw(records, NOW_MS + DRAWN_AGAIN_MS - 1))
    assert first == [f"{CLIENT}/32", "192.0.2.7/32", "192.0.2.6/32", "192.0.2.5/32"]
    assert later == ["192.0.2.4/32", "192.0.2.3/32", "192.0.2.2/32", "192.0.2.1/32"]
    assert list(studio.draw(records, NOW_MS + DRAWN_AGAIN_MS)) == first


@pytest.mark.parametrize(
    ("aggregate", "network"),
    [
        ("aggregate = { ipv4 = 24 }", "203.0.113.0/24"),
        ('aggregate = { by = ["path"] }', "203.0.113.9/32"),
    ],
)
def test_a_client_is_drawn_as_its_rule_aggregates_addresses(aggregate: str, network: str) -> None:
    assert list(Studio(parse_rules(BURST.text + aggregate)).draw(lines(9))) == [network]


def test_ipv6_clients_are_drawn_beside_ipv4_clients() -> None:
    records = lines(9) + lines(8, "2001:db8::7") + lines(7, "2001:db8:0:1::7")
    assert list(Studio().draw(records)) == [f"{CLIENT}/32", "2001:db8::/64", "2001:db8:0:1::/64"]


def test_whatever_clients_write_a_batchs_portraits_are_small_and_harmless() -> None:
    records = []
    for client in range(9):
        for number in range(9):
            text = f"{HOSTILE}{client}-{number}" + "\N{GRINNING FACE}" * 200
            record = waf_text(
                clientIp=f"192.0.2.{client}",
                uri=f"/{text}",
                host=text,
                httpMethod=text,
                country=text,
                headers=[{"name": "user-agent", "value": text}],
            )
            records.append(record)
    drawn = Studio().drawn(records)
    assert len(drawn) == MOST_CLIENTS
    assert len(pack_portraits(drawn)) <= LARGEST_PACKED
    for each in drawn:
        values = [getattr(each.portrait, name) for name, _ in SHOWN.values()]
        assert all(len(kind) <= MOST_VALUES for kind in values)
        texts = [text for kind in (*values, each.portrait.lines) for text in kind]
        assert all(text.isprintable() for text in texts)
        assert max(len(text.encode()) for text in texts) <= 160
        assert len(msgspec.json.encode(each.portrait)) < 3000


def test_portraits_that_do_not_fit_are_left_out_from_the_end() -> None:
    def drawn(host: int) -> Drawn:
        return Drawn("cloudfront", f"192.0.2.{host}/32", Portrait(requests=1, paths={f"/{(host * 7919) ** 230}": 1}))

    portraits = [drawn(host) for host in range(1, 9)]
    packed = pack_portraits(portraits)
    assert 1000 < len(packed) <= LARGEST_PACKED
    kept = unpack_portraits(packed)
    assert kept == portraits[: len(kept)]
    assert pack_portraits([]) == b""


PACKED = pack_portraits([Drawn("waf", "192.0.2.1/32", Portrait(requests=1))])


@pytest.mark.parametrize("packed", [b"", b"x", PACKED[:-9]], ids=["none", "damaged", "cut"])
def test_portraits_that_cannot_be_read_are_none(packed: bytes) -> None:
    assert list(unpack_portraits(packed)) == []


def test_portraits_of_several_batches_add_up_until_a_client_has_been_quiet() -> None:
    recent = RecentPortraits()

    def add(path: str, at_ms: int) -> None:
        recent.add([Drawn("waf", CLIENT, Portrait(requests=2, paths={path: 2}))], at_ms)

    add("/a", NOW_MS)
    add("/b", NOW_MS + REMEMBERED_MS)
    at_ms = NOW_MS + REMEMBERED_MS
    assert recent.portrait("waf", CLIENT, at_ms) == Portrait(requests=4, paths={"/a": 2, "/b": 2})
    add("/c", at_ms + REMEMBERED_MS + 1)
    at_ms += REMEMBERED_MS + 1
    assert recent.portrait("waf", CLIENT, at_ms) == Portrait(requests=2, paths={"/c": 2})
    assert recent.portrait("cloudfront", CLIENT, at_ms) is None
    assert recent.portrait("waf", CLIENT, at_ms + REMEMBERED_MS + 1) is None


def test_a_container_remembers_a_bounded_number_of_portraits_the_latest() -> None:
    recent = RecentPortraits()
    for number in range(MOST_REMEMBERED + 1):
        recent.add([Drawn("waf", str(number), Portrait(requests=1))], NOW_MS)
    assert recent.portrait("waf", "0", NOW_MS) is None
    assert recent.portrait("waf", "1", NOW_MS) is not None
    assert recent.portrait("waf", str(MOST_REMEMBERED), NOW_MS) is not None


def test_of_a_rule_on_different_values_those_with_the_most_values_in_a_batch_are_drawn() -> None:
    rules = parse_rules('[[rule]]\nname = "copy"\ndistinct = "path"\nlimit = 50\nwindow = "1h"\n')
    copied = [line for n in range(5) for line in lines(1, cs_uri_stem=f"/{n}")]
    copied += [line for n in range(5) for line in lines(1, "2001:db8::7", cs_uri_stem=f"/{n}")]
    drawn = Studio(rules).draw([*copied, *lines(40, "192.0.2.1")])
    assert {network: portrait.requests for network, portrait in drawn.items()} == {
        f"{CLIENT}/32": 5,
        "2001:db8::/64": 5,
    }
