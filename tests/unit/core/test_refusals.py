"""Requests answered as Sluice's own refusals, in each log."""

from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS, CloudFrontLines
from chalicelib.core.meter_tally import Clients
from chalicelib.core.refusals import REFUSAL_COLUMNS, refusal_rows
from chalicelib.core.rules import Meter, Rule, RuleSet
from chalicelib.core.scope import EVERYTHING, Scope
from chalicelib.core.tally import Tallier, Tally
from tests.support.records import cloudfront, waf_text


def test_cloudfront_knows_refusals_by_their_status() -> None:
    statuses = ["200", "429", "403", "429", "404"]
    requests, _ = CloudFrontLines().decode([cloudfront(DEFAULT_FIELDS, sc_status=status) for status in statuses])
    assert list(refusal_rows(requests)) == [1, 3]


def test_a_log_without_statuses_has_no_refusals() -> None:
    fields = ("timestamp", "c-ip")
    requests, _ = CloudFrontLines(fields).decode([cloudfront(fields)])
    assert list(refusal_rows(requests)) == []


def test_waf_knows_refusals_by_its_action_as_well() -> None:
    records = [
        waf_text(action="BLOCK", responseCodeSent=429),
        waf_text(action="BLOCK", responseCodeSent=403),
        waf_text(action="BLOCK"),
        waf_text(action="ALLOW", responseCodeSent=429),
        waf_text(action="ALLOW"),
    ]
    (requests,) = BatchDecoder().decode(records, REFUSAL_COLUMNS).requests
    assert list(refusal_rows(requests)) == [0]


def test_waf_tells_the_requests_that_it_asked_for_a_token() -> None:
    records = [
        waf_text(action="CHALLENGE", responseCodeSent=202),
        waf_text(action="CAPTCHA", responseCodeSent=405),
        waf_text(action="CHALLENGE", responseCodeSent=405),
        waf_text(action="ALLOW", responseCodeSent=202),
        waf_text(action="BLOCK", responseCodeSent=429),
        waf_text(action="ALLOW"),
    ]
    (requests,) = BatchDecoder().decode(records, REFUSAL_COLUMNS).requests
    assert list(refusal_rows(requests)) == [0, 1, 4]


def test_in_other_logs_the_statuses_of_a_challenge_and_a_puzzle_are_the_origins() -> None:
    statuses = ["202", "405", "429"]
    requests, _ = CloudFrontLines().decode([cloudfront(DEFAULT_FIELDS, sc_status=status) for status in statuses])
    assert list(refusal_rows(requests)) == [2]


def test_rules_always_have_the_columns_examined_that_tell_refusals() -> None:
    rules = RuleSet((Rule(name="r", limit=1, window_s=10),))
    (requests,) = BatchDecoder().decode([waf_text(action="BLOCK", responseCodeSent=429)], rules.columns()).requests
    assert list(refusal_rows(requests)) == [0]


METERS = [Meter(EVERYTHING, 32, 64, 100), Meter(Scope(status=("4xx",)), 32, 64, 1000)]


def tallied(*statuses: str) -> Tally:
    lines = [cloudfront(DEFAULT_FIELDS, sc_status=status) for status in statuses]
    return Tallier(METERS).tally([CloudFrontLines().decode(lines)[0]])


def test_a_request_that_several_meters_count_is_refused_once() -> None:
    assert Tallier(METERS).refused(tallied("200", "429", "404", "429")) == 2
    assert Tallier(METERS).refused(tallied("200", "404")) == 0


def test_each_meter_counts_its_refusals_among_all_requests_and_once_more_by_themselves() -> None:
    def numbers(clients: Clients) -> list[int]:
        return [number for slots in clients.values() for number in slots.values()]

    counts = {(part.topic, part.slot_ms): numbers(part.clients()) for part in tallied("200", "429", "404", "429")}
    every, errors = METERS
    assert counts == {
        (every.topic, 100): [4],
        (every.refusals().topic, 100): [2],
        (errors.topic, 1000): [3],
        (errors.refusals().topic, 1000): [2],
    }


def test_a_batch_without_refusals_stores_nothing_for_them() -> None:
    assert [part.topic for part in tallied("200", "404")] == [meter.topic for meter in METERS]
