"""The operator's page: changes take effect, can be undone, and are refused with a reason."""

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace
from playwright.sync_api import Locator, Page, expect

import app
from chalicelib.api.openapi import document
from chalicelib.core.responses import Response
from chalicelib.core.state.blocks import Members
from chalicelib.core.state.feeds import Feed
from chalicelib.core.state.operators import EarlierRule, Pause, Placed
from chalicelib.core.state.trends import QUARTER_S, Traffic, TrendMark
from tests.page.conftest import OpenPage
from tests.support.browser import sign_in
from tests.support.site import Site

PAGE = Path(app.__file__).parent / "chalicelib" / "web"
VIEWS = ("now", "blocks", "history", "client/203.0.113.9", "allowlist", "rules", "audit")
MARKUP = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"


def row(page: Page, network: str) -> Locator:
    return page.locator("#blocks-list").get_by_role("row").filter(has_text=network)


def notice(page: Page, text: str) -> Locator:
    return page.locator(".notice").filter(has_text=text)


# --- signing in


def test_a_token_opens_the_page_and_stays_in_the_tab(open_page: OpenPage, site: Site) -> None:
    page = open_page()
    expect(page.locator("#me")).to_have_text("alice, operator")
    expect(page.locator("#enforcing")).to_have_text("Enforcing")
    assert site.operator not in page.url
    assert page.evaluate("localStorage.length") == 0
    assert page.evaluate("document.cookie") == ""
    assert site.operator not in page.content()
    page.reload()
    expect(page.locator("#me")).to_have_text("alice, operator")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_the_link_of_a_local_cloud_signs_in_and_leaves_no_token_in_the_address(open_page: OpenPage, site: Site) -> None:
    page = open_page(f"sign-in/{site.operator}", token="")
    expect(page.locator("#me")).to_have_text("alice, operator")
    assert page.url == f"{site.url}#now"


def test_a_wrong_token_is_rejected_with_a_message(open_page: OpenPage) -> None:
    page = open_page(token="")
    sign_in(page, "sluice_wrong")
    expect(page.get_by_role("alert")).to_contain_text("unknown, revoked or expired")


def test_an_expired_session_is_announced(open_page: OpenPage, site: Site) -> None:
    page = open_page()
    site.revoke_all()
    expect(page.get_by_role("alert")).to_contain_text("The session has ended")
    expect(page.locator("#view-now")).to_be_hidden()


def test_a_viewer_sees_everything_but_no_controls(open_page: OpenPage, site: Site) -> None:
    site.put_blocks("203.0.113.9/32")
    page = open_page("blocks", token=site.viewer)
    expect(row(page, "203.0.113.9")).to_be_visible()
    for view in VIEWS:
        page.goto(f"{site.url}#{view}")
        expect(page.locator(f"#view-{view.partition('/')[0]}")).to_be_visible()
        for name in (
            "Unblock",
            "Block",
            "Pause",
            "Allow",
            "Remove",
            "Change",
            "Apply",
            "Roll back",
            "Only count",
            "Undo",
        ):
            expect(page.get_by_role("button", name=re.compile(f"^{name}"))).to_have_count(0)
    page.goto(f"{site.url}#rules")
    expect(page.get_by_label("Rules, in TOML")).not_to_be_editable()


# --- records that cannot be read


def test_a_record_that_cannot_be_read_is_announced_shown_and_removed(open_page: OpenPage, site: Site) -> None:
    body = json.dumps({"network": "192.0.2.77/24", "comment": MARKUP})
    site.put_unreadable("allow", "192.0.2.77/24", body.encode())
    page = open_page()
    banner = page.locator(".banner")
    expect(banner).to_contain_text("1 stored record cannot be read and is skipped, for example allow 192.0.2.77/24")
    expect(banner).to_contain_text("has host bits set; the network is 192.0.2.0/24")
    banner.get_by_role("button", name="Look at it").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("pre")).to_have_text(body)
    dialog.get_by_role("button", name="Remove").click()
    expect(page.locator(".notice")).to_contain_text("Allow 192.0.2.77/24 is removed")
    expect(banner).to_have_count(0)
    page.locator(".notice").get_by_role("button", name="Undo").click()
    expect(page.locator(".notice")).to_contain_text("Allow 192.0.2.77/24 is put back")


# --- the place in the web ACL


def test_the_place_in_the_web_acl_and_the_rules_before_it_are_shown_with_their_age(
    open_page: OpenPage, site: Site
) -> None:
    page = open_page()
    expect(page.locator("#enforcing")).to_have_text("Enforcing")
    expect(page.locator("#places")).to_be_hidden()
    expect(page.locator("#tiles")).not_to_contain_text("web ACL")
    office = EarlierRule(name=f"office{MARKUP}", priority=0, effect="allows requests", may_allow=True)
    site.put_places(Placed(web_acl="shop", place=3, rules=4, before=(office,)), age_s=7300)
    card = page.locator("#places")
    expect(card).to_contain_text("In web ACL shop, Sluice is rule 3 of 4, as of 2h 1m ago")
    expect(card).to_contain_text(f"Before it: office{MARKUP} (allows requests). sluice setup --renumber")
    expect(page.locator("#tiles .bad")).to_contain_text("3 of 4")
    site.put_places(Placed(web_acl="shop", place=0, rules=4))
    expect(card).to_contain_text("In web ACL shop, there is no rule of Sluice")
    site.put_places(Placed(web_acl="shop", place=1, rules=4))
    expect(card).to_be_hidden()
    expect(page.locator("#tiles")).to_contain_text("1 of 4")
    expect(page.locator("#tiles .bad", has_text="of 4")).to_have_count(0)


# --- a log that cannot be read


def test_a_log_that_cannot_be_read_is_announced_with_a_sample_and_a_remedy(open_page: OpenPage, site: Site) -> None:
    page = open_page()
    expect(page.locator("#enforcing")).to_have_text("Enforcing")
    expect(page.locator("#malformed")).to_be_hidden()
    site.put_malformed(*[f"1790000000.1\t{MARKUP} \x1b[2J \u202e".encode()] * 3000)
    expect(page.locator(".banner")).to_contain_text("3,000 lines have 2 fields where CLOUDFRONT_FIELDS names 9")
    card = page.locator("#malformed")
    expect(card).to_contain_text("3,000 lines have 2 fields where CLOUDFRONT_FIELDS names 9")
    expect(card.locator("code")).to_contain_text(f"1790000000.1\\t{MARKUP} \\x1b")
    expect(card).to_contain_text("Set CLOUDFRONT_FIELDS to the fields")
    assert page.title().endswith("Sluice")


def test_an_object_in_which_nothing_can_be_read_is_named(open_page: OpenPage, site: Site) -> None:
    page = open_page()
    expect(page.locator("#enforcing")).to_have_text("Enforcing")
    site.put_object(f"{MARKUP}.gz", b"\x1f\x8b\x08 no gzip")
    expect(page.locator(".banner")).to_contain_text(
        "Not counted: 1 record has damaged gzip. Check whether something cuts"
    )
    expect(page.locator("#malformed")).to_contain_text(
        f"1 record has damaged gzip, within a quarter hour, such as logs/{MARKUP}.gz:"
    )


def test_requests_that_came_too_late_to_count_are_shown(open_page: OpenPage, site: Site) -> None:
    page = open_page()
    expect(page.locator("#tiles")).to_contain_text("Requests per second")
    expect(page.locator("#tiles")).not_to_contain_text("Too late to count")
    site.put_late(12)
    expect(page.locator("#tiles")).to_contain_text("Too late to count")
    expect(page.locator("#tiles div", has_text="Too late to count").locator(".value")).to_have_text("12")


def test_the_networks_of_feeds_are_shown_and_which_feed_failed(open_page: OpenPage, site: Site) -> None:
    page = open_page()
    expect(page.locator("#tiles")).to_contain_text("Requests per second")
    expect(page.locator("#tiles")).not_to_contain_text("Networks of feeds")
    site.put_feed(
        Feed(name="bot", url="https://bots.example/", checked_at=int(time.time()), networks=28, problem=MARKUP)
    )
    tile = page.locator("#tiles div", has_text="Networks of feeds")
    expect(tile.locator(".value")).to_have_text("28")
    expect(tile).to_contain_text("bot: not read, last list in use")


# --- an attack


def test_an_attack_appears_and_is_lifted_and_blocked_again(open_page: OpenPage, site: Site) -> None:
    page = open_page("blocks")
    expect(page.get_by_text("No client is blocked.").last).to_be_visible()
    site.attack("203.0.113.9")
    expect(row(page, "203.0.113.9")).to_contain_text("requests within 5s, limit 20")
    expect(row(page, "203.0.113.9")).to_contain_text("burst")
    site.eventually(lambda: "203.0.113.9/32" in site.published())
    page.get_by_role("button", name="Unblock 203.0.113.9/32").click()
    expect(row(page, "203.0.113.9")).to_have_count(0)
    site.eventually(lambda: "203.0.113.9/32" not in site.published())
    notice(page, "is no longer blocked").get_by_role("button", name="Undo").click()
    expect(row(page, "203.0.113.9")).to_contain_text("requests within")
    expect(notice(page, "is no longer blocked")).to_have_count(0)
    expect(row(page, "203.0.113.9").locator(".chip").first).to_contain_text("burst")
    site.eventually(lambda: "203.0.113.9/32" in site.published())


def test_the_first_view_shows_an_attack_in_figures_bars_and_chart(open_page: OpenPage, site: Site) -> None:
    page = open_page()
    site.attack("203.0.113.9", 60)
    site.attack("192.0.2.77", 15)
    blocked = page.locator("#top li").filter(has_text="203.0.113.9")
    expect(blocked).to_contain_text("60 of 20")
    expect(blocked).to_contain_text("blocked for another")
    expect(blocked).to_contain_text(re.compile(r"\d+ of \d+: GET www.example.com/ 200"))
    expect(page.locator("#top li").filter(has_text="192.0.2.77")).to_contain_text("15 of 20")
    expect(page.locator("#tiles > div").first).to_contain_text("burst 1")
    expect(page.locator("#newest")).to_contain_text("203.0.113.9")
    chart = page.locator("#chart svg")
    expect(chart).to_have_attribute("aria-label", re.compile("requests per second now"))
    chart.focus()
    chart.press("ArrowLeft")
    expect(page.locator(".tip")).to_contain_text("requests per second")


def test_the_traffic_of_a_day_is_shown_beside_that_of_the_day_and_week_before(open_page: OpenPage, site: Site) -> None:
    over = int(time.time()) // QUARTER_S * QUARTER_S
    quiet = Traffic(
        at=over - 3 * QUARTER_S, measured_s=QUARTER_S, requests=900_000, offences=2, blocks=1, most_blocked=1
    )
    busy = replace(
        quiet, at=over - QUARTER_S, requests=1_800_000, refused=90_000, offences=40, more=True, most_blocked=7
    )
    day_before = [replace(each, at=each.at - 86400, requests=900_000, refused=0) for each in (busy, quiet)]
    site.put_trend(busy, quiet, *day_before, replace(quiet, at=quiet.at - 7 * 86400))
    page = open_page(locale="en-GB")
    expect(page.locator("#compared")).to_contain_text("nothing is recorded a week earlier")
    page.get_by_label("of the last").select_option("1d")
    expect(page.locator("#compared")).to_contain_text("50 % more requests and 90,000 more refused than a day earlier")
    expect(page.locator("#compared")).to_contain_text("a week earlier, 15m is recorded, and 30m of this time")
    expect(page.locator(".legend")).to_contain_text("blocks made")
    this_time, day, week = (page.locator("#comparison tbody tr").nth(number) for number in range(3))
    assert this_time.locator("td").all_inner_texts() == [*("this time", "2,700,000", "90,000", "42+", "2+", "7", "30m")]
    expect(day).to_contain_text("1,800,000")
    expect(week).to_contain_text("15m")
    chart = page.locator("#chart svg")
    expect(chart).to_have_attribute("aria-label", re.compile("2,700,000 requests, 90,000 of them refused"))
    # The quarter hour between the two was not added up: the line has a gap.
    assert len(re.findall("M", page.locator("#chart .line").get_attribute("d") or "")) == 2
    chart.focus()
    chart.press("ArrowLeft")
    expect(page.locator(".tip")).to_contain_text("not recorded")
    chart.press("ArrowRight")
    expect(page.locator(".tip")).to_contain_text("1,800,000 requests (2,000 per second), 90,000 of them refused")
    # A step between gaps is drawn as wide as it is: a line through one point would not be seen.
    assert re.fullmatch(r"M([\d.]+,[\d.]+L[\d.]+,[\d.]+M?)+", page.locator("#chart .line").get_attribute("d") or "")
    page.get_by_text("As a table").click()
    expect(page.locator("#chart-table tbody tr").nth(1)).to_contain_text("not recorded")
    page.get_by_label("of the last").select_option("7d")
    expect(page.locator(".tip")).to_be_hidden()
    expect(page.locator("#compared")).not_to_contain_text("day earlier")
    page.get_by_label("of the last").select_option("31d")
    expect(page.locator("#compared")).to_contain_text("a week earlier, which overlaps")
    page.get_by_label("of the last").select_option("15m")
    expect(page.locator(".legend")).to_contain_text("blocked then and still")


def test_the_keys_of_the_chart_keep_its_colours_where_colours_are_forced(open_page: OpenPage, site: Site) -> None:
    site.attack("203.0.113.9", 60)
    page = open_page(forced_colors="active")
    expect(page.locator("#chart rect.detections").first).to_be_attached()
    keys = page.locator(".legend li").evaluate_all(
        "keys => keys.map((key) => getComputedStyle(key, '::before').backgroundColor)"
    )
    lines = [("line", "stroke"), ("refused", "fill"), ("detections", "fill"), ("blocks", "fill")]
    drawn = [
        page.locator(f"#chart .{name}").first.evaluate(f"each => getComputedStyle(each).{how}") for name, how in lines
    ]
    assert keys == drawn
    assert len(set(keys)) == 4


def test_a_part_of_the_time_is_shown_by_a_drag_or_keys_kept_in_the_address_and_left_again(
    open_page: OpenPage, site: Site
) -> None:
    over = int(time.time()) // QUARTER_S * QUARTER_S
    site.put_trend(*[Traffic(at=over - n * QUARTER_S, measured_s=QUARTER_S, requests=n) for n in range(1, 97)])
    page = open_page("now/1d", locale="en-GB")
    chart, span = page.locator("#chart svg"), page.get_by_label("of the last")
    expect(span).to_have_value("1d")
    expect(chart).to_have_attribute("aria-label", re.compile("4,656 requests"))
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 80, steps=4)
    expect(page.locator("#chart .band")).to_be_visible()
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"#now/\d+m/\d+$"))
    zoomed = page.url
    expect(chart).not_to_have_attribute("aria-label", re.compile("4,656 requests"))
    expect(page.locator("#comparison tbody tr").first).to_contain_text("all")
    page.reload()
    expect(chart).not_to_have_attribute("aria-label", re.compile("4,656 requests"))
    assert page.url == zoomed
    page.get_by_role("button", name="Back").press("Enter")
    expect(span).to_have_value("1d")
    expect(chart).to_have_attribute("aria-label", re.compile("4,656 requests"))
    expect(chart).to_be_focused()
    chart.press("ArrowLeft")
    chart.press("Control++")
    assert page.url.endswith("#now/1d")
    chart.press("+")
    expect(page).to_have_url(re.compile(r"#now/\d+m/\d+$"))
    chart.press("Control+-")
    assert not page.url.endswith("#now/1d")
    chart.press("-")
    expect(page).to_have_url(re.compile("#now/1d$"))
    page.go_back()
    expect(page).to_have_url(re.compile(r"#now/\d+m/\d+$"))
    # The browser's own Back leads to a time to which the button would lead next: the button goes on from there.
    expect(chart).not_to_have_attribute("aria-label", re.compile("4,656 requests"))
    part = page.url
    chart.press("+")
    expect(page).not_to_have_url(part)
    page.go_back()
    expect(page).to_have_url(part)
    page.get_by_role("button", name="Back").click()
    expect(page).to_have_url(re.compile("#now/1d$"))


def test_a_time_in_the_address_that_cannot_be_shown_leaves_the_rest_of_the_page_in_use(open_page: OpenPage) -> None:
    now = int(time.time())
    page = open_page(f"now/6h/{now - 40 * 86400}")
    for span, reason in {"6h": "until: ", "99d": "span: from 15m", "0m": "span: from 15m"}.items():
        page.evaluate("hash => { location.hash = hash; }", f"#now/{span}/{now - 40 * 86400 if span == '6h' else now}")
        expect(page.locator("#compared")).to_contain_text("The chosen time cannot be shown: ")
        expect(page.locator("#compared")).to_contain_text(reason)
        expect(page.locator("#chart svg")).to_have_attribute("aria-label", re.compile("in the last quarter hour"))
        expect(page.locator("#enforcing")).to_have_text("Enforcing")
        expect(page.locator("#tiles")).to_contain_text("Requests per second")
        expect(page.locator("#banners")).to_be_empty()
    page.get_by_role("button", name="Back").click()
    expect(page.locator("#compared")).to_contain_text("From ")


def test_a_quarter_hour_that_was_added_up_late_is_an_average_and_sweeps_that_fail_to_are_told(
    open_page: OpenPage, site: Site
) -> None:
    now = int(time.time())
    over = now // QUARTER_S * QUARTER_S
    site.put_trend(Traffic(at=over - 2 * QUARTER_S, measured_s=2 * QUARTER_S, requests=1000))
    site.put_control(TrendMark(at=now - 1900))
    page = open_page(locale="en-GB")
    page.get_by_label("of the last").select_option("1h")
    expect(page.locator("#overdue")).to_contain_text("Nothing has been added up since")
    chart = page.locator("#chart svg")
    chart.focus()
    chart.press("ArrowLeft")
    chart.press("ArrowLeft")
    expect(page.locator(".tip")).to_contain_text("about 500 requests")
    expect(page.locator(".tip")).to_contain_text("an average")


def test_the_hour_that_occurs_twice_is_told_apart(open_page: OpenPage) -> None:
    page = open_page(locale="en-GB", timezone_id="Europe/Berlin")
    script = """async () => {
        const { shortMoment } = await import(new URL("page/zone.js", location.href));
        return [1792886400, 1792890000, 1792893600, 1792897200].map((at) => shortMoment(at))
    }"""
    assert page.evaluate(script) == ["02:00 CEST", "02:00 CET", "03:00", "04:00"]


def test_all_times_are_in_the_chosen_zone_and_name_it(open_page: OpenPage, site: Site) -> None:
    site.put_blocks("203.0.113.9/32")
    page = open_page("blocks", locale="en-GB", timezone_id="Europe/Berlin")
    page.get_by_role("button", name="Unblock 203.0.113.9/32").click()
    expect(row(page, "203.0.113.9")).to_have_count(0)
    zone = page.get_by_label("Time zone of all times")
    expect(zone.locator("option").first).to_have_text("this browser's (Europe/Berlin)")
    page.get_by_role("link", name="History").click()
    when = page.locator("#history time").first
    expect(when).to_contain_text(re.compile(r"\d\d:\d\d:\d\d CES?T"))
    zone.select_option("Asia/Tokyo")
    expect(zone).to_have_value("Asia/Tokyo")
    expect(when).to_contain_text("GMT+9")
    made = datetime.fromisoformat(when.get_attribute("datetime") or "").astimezone(ZoneInfo("Asia/Tokyo"))
    expect(when).to_contain_text(f"{made:%H:%M:%S}")
    # The moment to look around is in the same zone.
    page.locator("#view-history").get_by_label("Within").select_option("3600")
    page.get_by_label("Around").fill(f"{made:%Y-%m-%dT%H:%M}")
    expect(page.locator("#history time").first).to_be_visible()
    page.get_by_label("Around").fill(f"{made.astimezone(UTC):%Y-%m-%dT%H:%M}")
    expect(page.locator("#history time")).to_have_count(0)
    page.reload()
    expect(zone).to_have_value("Asia/Tokyo")
    zone.select_option("")
    expect(page.locator("#history time").first).to_contain_text(re.compile("CES?T"))
    assert page.evaluate("localStorage.length") == 0


def test_a_stored_time_zone_that_the_browser_does_not_know_is_its_own(open_page: OpenPage) -> None:
    page = open_page(timezone_id="Europe/Berlin")
    page.evaluate("localStorage.setItem('sluice.zone', 'Middle/Earth')")
    page.reload()
    expect(page.get_by_label("Time zone of all times")).to_have_value("")
    expect(page.locator("#enforcing")).to_have_text("Enforcing")


def test_a_client_is_explained_from_the_search_field(open_page: OpenPage, site: Site) -> None:
    site.attack("203.0.113.9")
    page = open_page()
    page.get_by_label("Address or network to explain").fill("203.0.113.9")
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#client")).to_contain_text("203.0.113.9/32 is blocked for another")
    expect(page.locator("#client .verdict")).to_have_text("Blocked")
    page.get_by_role("button", name="Unblock and forget offences").click()
    expect(page.locator("#client .verdict")).to_have_text("Not blocked")
    page.get_by_label("Address or network to explain").fill("not an address")
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_role("alert")).to_contain_text("address")


def test_a_manual_block_succeeds_or_shows_its_error_beside_the_form(open_page: OpenPage, site: Site) -> None:
    page = open_page("blocks")
    form = page.get_by_role("form", name="Block by hand")
    form.get_by_label("Network").fill("203.0.113.0/25")
    form.get_by_label("Comment").fill("scrapers")
    form.get_by_role("button", name="Block").click()
    expect(row(page, "203.0.113.0/25")).to_contain_text("scrapers")
    form.get_by_label("Network").fill("203.0.113.1/25")
    form.get_by_role("button", name="Block").click()
    expect(page.get_by_role("alert")).to_contain_text("203.0.113.0/25")
    form.get_by_label("Network").fill("198.51.100.7")
    form.get_by_role("button", name="Block").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("198.51.100.0/24 (office) is on the allowlist")
    dialog.get_by_role("button", name="Do it anyway").click()
    expect(row(page, "198.51.100.7")).to_contain_text("withheld")


def test_a_manual_block_gets_the_response_that_was_chosen_among_those_with_ip_sets(
    open_page: OpenPage, site: Site
) -> None:
    page = open_page("blocks")
    form = page.get_by_role("form", name="Block by hand")
    responses = form.get_by_label("Response")
    expect(responses).to_have_value("block")
    assert responses.locator("option").all_text_contents() == ["block", "challenge"]
    form.get_by_label("Network").fill("203.0.113.9")
    responses.select_option("challenge")
    form.get_by_role("button", name="Block").click()
    expect(notice(page, "203.0.113.9/32 is under challenge for 1h")).to_be_visible()
    expect(row(page, "203.0.113.9").locator(".chip.warn")).to_have_text("challenge")
    expect(row(page, "203.0.113.9")).to_contain_text("challenged by alice")
    site.eventually(lambda: site.published_in("sluice-challenge-v4") == {"203.0.113.9/32"})
    assert site.published() == {"203.0.113.9/32"}
    page.goto(f"{site.url}#client/203.0.113.9")
    expect(page.locator("#client .verdict")).to_have_text("Challenged")
    page.locator("#client").get_by_role("button", name="Block", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Block").click()
    expect(page.locator("#client .verdict")).to_have_text("Blocked")
    site.eventually(lambda: site.published_in("sluice-v4") == {"203.0.113.9/32"} == site.published())
    expect(page.locator("#client").get_by_role("button", name="Block", exact=True)).to_have_count(0)


def test_a_block_shows_its_step_of_the_ladder(open_page: OpenPage, site: Site) -> None:
    later = int(time.time()) + 600
    site.put_blocks("203.0.113.9/32", rule="crawl", offence=1, until=0, softer={Response.CHALLENGE: later})
    site.put_blocks("192.0.2.1/32", rule="crawl", offence=2)
    page = open_page("blocks")
    expect(row(page, "203.0.113.9").locator(".chip.warn")).to_have_text("challenge")
    expect(row(page, "203.0.113.9")).to_contain_text("first offence: challenged")
    expect(row(page, "192.0.2.1").locator(".chip.warn")).to_have_count(0)
    expect(row(page, "192.0.2.1")).to_contain_text("offence 2: blocked")
    page.goto(f"{site.url}#now")
    expect(page.locator("#tiles > div").first).to_contain_text("1 blocked · 1 challenged")


def test_the_block_of_a_network_names_its_members_and_who_else_was_seen_and_is_undone_at_once(
    open_page: OpenPage, site: Site
) -> None:
    named = tuple(f"203.0.113.{number}/32" for number in range(10))
    seen = Members(number=12, named=named, innocents=("203.0.113.77/32",))
    site.put_blocks("203.0.113.0/24", rule="[networks]", members=seen)
    site.put_blocks(named[0])
    page = open_page("blocks")
    expect(row(page, "203.0.113.0/24")).to_contain_text("12 blocked clients in it")
    expect(row(page, "203.0.113.0/24")).to_contain_text("1 other client seen in it")
    page.get_by_role("link", name="203.0.113.0/24").click()
    members = page.get_by_role("region", name="Members of 203.0.113.0/24")
    expect(members).to_contain_text("203.0.113.9 and 2 more")
    expect(members.get_by_role("link", name="203.0.113.77")).to_be_visible()
    members.get_by_role("button", name="Unblock 203.0.113.0/24, not its members").click()
    expect(page.locator("#explain-title")).to_have_text("1 network in it blocked")
    expect(members).to_have_count(0)
    site.eventually(lambda: site.published() == {named[0]})


def test_a_client_and_the_history_show_what_it_requested_as_text(open_page: OpenPage, site: Site) -> None:
    site.attack("203.0.113.9", number=24, path=MARKUP.replace(" ", "%20"), method="POST", status=404)
    site.attack("203.0.113.9", number=16, path="/b")
    page = open_page("client/203.0.113.9")
    requested = page.get_by_role("region", name="What it requested")
    expect(requested).to_contain_text(f"POST www.example.com{MARKUP} 404")
    expect(requested).to_contain_text(re.compile(r"Statuses404 \d+ of \d+200 "))
    expect(requested).to_contain_text(re.compile(r"User agentsagent (\d+) of \1"))
    page.get_by_role("link", name="History").click()
    first = page.locator("#history tbody tr").first
    first.get_by_text("What it requested").click()
    expect(first).to_contain_text("/b")
    first.get_by_text("What it requested").focus()
    with page.expect_response(lambda response: "/v1/history" in response.url):
        pass
    page.wait_for_load_state("networkidle")
    expect(first).to_contain_text("/b")
    expect(first.locator("summary")).to_be_focused()
    assert page.locator("main img, main script").count() == 0
    assert page.title() == "History - Sluice"


def test_the_history_shows_who_was_blocked_why_and_when_it_ended(open_page: OpenPage, site: Site) -> None:
    page = open_page("blocks")
    form = page.get_by_role("form", name="Block by hand")
    for network in ("203.0.113.9", "192.0.2.7"):
        form.get_by_label("Network").fill(network)
        form.get_by_label("Comment").fill(f"scraper {MARKUP}")
        form.get_by_role("button", name="Block").click()
        expect(row(page, network)).to_be_visible()
    page.get_by_role("button", name="Unblock 203.0.113.9/32").click()
    expect(row(page, "203.0.113.9")).to_have_count(0)
    page.get_by_role("link", name="History").click()
    rows = page.locator("#history tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("203.0.113.9")
    expect(rows.nth(0)).to_contain_text("lifted by alice")
    expect(rows.nth(1)).to_contain_text(f"By alice: scraper {MARKUP}.")
    filter = page.get_by_role("form", name="Filter")
    filter.get_by_label("Network").fill("203.0.113.0/24")
    expect(rows).to_have_count(2)
    filter.get_by_label("Outcome").select_option("ended")
    expect(rows).to_have_count(1)
    filter.get_by_label("Around").fill("2020-01-31T03:00")
    expect(page.locator("#history")).to_contain_text("No event of that time matches.")
    filter.get_by_label("Around").fill("")
    expect(rows).to_have_count(1)
    filter.get_by_label("Rule", exact=False).locator("visible=true").first.select_option("burst")
    expect(rows).to_have_count(0)
    assert page.title() == "History - Sluice"


def test_a_filter_finds_the_block_that_covers_an_address(open_page: OpenPage, site: Site) -> None:
    site.put_blocks("203.0.113.0/25", "192.0.2.1/32")
    page = open_page("blocks")
    expect(row(page, "192.0.2.1")).to_be_visible()
    page.get_by_role("searchbox", name="Find").fill("203.0.113.77")
    expect(row(page, "203.0.113.0/25")).to_be_visible()
    expect(row(page, "192.0.2.1")).to_have_count(0)
    expect(page.locator("#blocks-note")).to_contain_text("1 block matches")


def test_all_blocks_of_a_rule_are_lifted_after_confirmation(open_page: OpenPage, site: Site) -> None:
    site.put_blocks(*(f"192.0.2.{last}/32" for last in range(50)), rule="login")
    site.put_blocks("203.0.113.9/32")
    page = open_page("blocks")
    expect(page.locator("#blocks-note")).to_have_text("51 blocks")
    page.locator("#block-filter [name=rule]").select_option("login")
    page.get_by_role("button", name="Unblock all of these").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("50 blocks by the rule login")
    dialog.get_by_role("button", name="Unblock 50").click()
    expect(notice(page, "50 blocks lifted")).to_be_visible()
    page.locator("#block-filter [name=rule]").select_option("")
    expect(page.locator("#blocks-note")).to_have_text("1 block")
    expect(row(page, "203.0.113.9")).to_be_visible()


# --- the allowlist


def test_an_allowlisted_network_is_unblocked_and_can_be_removed_again(open_page: OpenPage, site: Site) -> None:
    site.attack("203.0.113.9")
    site.eventually(lambda: "203.0.113.9/32" in site.published())
    page = open_page("allowlist")
    form = page.get_by_role("form", name="Add to the allowlist")
    form.get_by_label("Network").fill("203.0.113.0/24")
    form.get_by_label("Comment").fill("partner")
    form.get_by_label("Holds").select_option("3600")
    form.get_by_role("button", name="Allow").click()
    entry = page.locator("#allowlist tr").filter(has_text="203.0.113.0/24")
    expect(entry).to_contain_text("partner")
    expect(notice(page, "lifted 1 block")).to_be_visible()
    site.eventually(lambda: not site.published())
    page.get_by_role("button", name="Remove 203.0.113.0/24").click()
    expect(entry).to_have_count(0)
    notice(page, "is off the allowlist").get_by_role("button", name="Undo").click()
    expect(entry).to_contain_text("partner")


def test_an_entry_for_one_rule_names_it_and_keeps_it_when_it_is_changed(open_page: OpenPage, site: Site) -> None:
    page = open_page("allowlist")
    form = page.get_by_role("form", name="Add to the allowlist")
    form.get_by_label("Network").fill("203.0.113.0/24")
    form.get_by_label("Rules").fill("burst")
    form.get_by_role("button", name="Allow").click()
    entry = page.locator("#allowlist tr").filter(has_text="203.0.113.0/24")
    expect(entry).to_contain_text("burst")
    page.get_by_role("button", name="Change 203.0.113.0/24").click()
    form.get_by_label("Comment").fill("partner")
    form.get_by_role("button", name="Allow").click()
    expect(entry).to_contain_text("partner")
    expect(entry).to_contain_text("burst")


def test_a_changed_entry_keeps_its_end_and_says_what_was_changed(open_page: OpenPage, site: Site) -> None:
    page = open_page("allowlist")
    form = page.get_by_role("form", name="Add to the allowlist")
    entry = page.locator("#allowlist tr").filter(has_text="203.0.113.0/24")
    form.get_by_label("Network").fill("203.0.113.0/24")
    form.get_by_label("Holds").select_option("for an hour")
    form.get_by_role("button", name="Allow").click()
    expect(entry).to_contain_text("in 59m")  # and so it ticks
    form.get_by_label("Holds").select_option("for a day")
    page.get_by_role("button", name="Change 203.0.113.0/24").click()
    form.get_by_label("Comment").fill("partner")
    form.get_by_role("button", name="Allow").click()
    expect(notice(page, "changed: comment: '' becomes 'partner'.")).to_be_visible()
    expect(entry).to_contain_text("in 59m")
    page.get_by_role("button", name="Change 203.0.113.0/24").click()
    form.get_by_label("Holds").select_option("permanently")
    form.get_by_role("button", name="Allow").click()
    expect(notice(page, "becomes never")).to_be_visible()
    expect(entry).to_contain_text("never")
    expect(form.get_by_label("Holds").locator("option", has_text="as before")).to_have_count(0)


# --- the rules


def test_rules_are_applied_as_planned_and_rolled_back(open_page: OpenPage, site: Site) -> None:
    page = open_page("rules")
    text = page.get_by_label("Rules, in TOML")
    apply = page.get_by_role("button", name="Apply")
    expect(text).to_have_value(re.compile("limit = 20"))
    text.fill(text.input_value().replace("limit = 20", "limit = 30"))
    expect(apply).to_be_disabled()
    page.get_by_role("button", name="Plan").click()
    expect(page.locator("#rules-plan-result")).to_contain_text("limit: 20 becomes 30")
    text.press_sequentially(" ")
    expect(apply).to_be_disabled()
    page.get_by_role("button", name="Plan").click()
    expect(apply).to_be_enabled()
    said = """() => {
        window.said = [];
        const note = document.querySelector("#rules-note");
        const watch = new MutationObserver(() => window.said.push(note.textContent));
        watch.observe(note, { childList: true, subtree: true, characterData: true });
    }"""
    page.evaluate(said)
    apply.click()
    expect(page.locator("#rules-note")).to_contain_text("Version 2, saved by alice")
    assert not [text for text in page.evaluate("window.said") if "not applied" in text]
    expect(page.locator("#rules-words")).to_contain_text("30 requests within 5s")
    page.get_by_role("button", name="Roll back to version 1").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("limit: 30 becomes 20")
    dialog.get_by_role("button", name="Roll back").click()
    expect(page.locator("#rules-note")).to_contain_text("Version 3")
    expect(text).to_have_value(re.compile("limit = 20"))


def test_a_rule_card_says_what_is_counted_separately_and_only_where_it_is(open_page: OpenPage, site: Site) -> None:
    page = open_page("rules")
    words = page.locator("#rules-words")
    expect(words).to_contain_text("as one client")
    expect(words).not_to_contain_text("separately")
    text = page.get_by_label("Rules, in TOML")
    text.fill(
        text.input_value().replace('name = "burst"', 'name = "burst"\naggregate = { by = ["user_agent", "path"] }')
    )
    page.get_by_role("button", name="Plan").click()
    page.get_by_role("button", name="Apply").click()
    expect(words.get_by_text("counts the requests of each path and user agent separately")).to_have_count(1)


def test_a_rule_is_switched_to_count_and_back(open_page: OpenPage, site: Site) -> None:
    page = open_page("rules")
    page.get_by_role("button", name="Only count: burst").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Let burst only count?")
    dialog.get_by_role("button", name="Only count").click()
    expect(page.locator("#rules-note")).to_contain_text("Version 2, saved by alice")
    expect(page.get_by_label("Rules, in TOML")).to_have_value(re.compile('action = "count"'))
    page.get_by_role("button", name="Only count: crawl").click()
    dialog.get_by_role("button", name="Only count").click()
    expect(page.locator("#enforcing")).to_have_text("Only counting")
    page.get_by_role("button", name="Let it block: burst").click()
    dialog.get_by_role("button", name="Let it block").click()
    expect(page.locator("#enforcing")).to_have_text("Enforcing")


def test_a_rule_may_block_once_its_impact_has_been_seen_and_the_change_is_undone(
    open_page: OpenPage, site: Site
) -> None:
    site.attack_seen_by_plan("203.0.113.9", 10, path="/login", method="POST")
    page = open_page("history")
    page.get_by_label("Outcome").select_option("only counted")
    found = page.locator("#history tbody tr").filter(has_text="203.0.113.9")
    expect(found).to_contain_text("the rule only counts")
    page.get_by_role("link", name="Rules").click()
    page.get_by_role("button", name="Let it block: login").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(re.compile(r"In the last day it has found \d offences?, by 203.0.113.9/32"))
    expect(dialog).to_contain_text("action: count becomes block")
    expect(dialog).to_contain_text(re.compile(r"login: of 1 client in \d+ s of the cloudfront log, 1 would be over"))
    dialog.get_by_role("button", name="Let it block").click()
    expect(page.get_by_role("button", name="Only count: login")).to_be_visible()
    notice(page, "1 rule changed").get_by_role("button", name="Undo").click()
    expect(page.get_by_role("button", name="Let it block: login")).to_be_visible()


def test_a_rule_is_paused_for_an_hour_and_resumed(open_page: OpenPage) -> None:
    page = open_page("rules")
    card = page.locator("article.rule", has_text="burst")
    page.get_by_role("button", name="Pause for an hour: burst").click()
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(card).to_contain_text("paused")
    expect(card).to_contain_text("only counts until")
    expect(page.get_by_label("Rules, in TOML")).to_have_value(re.compile(r"paused_until = \d{4}-\d\d-\d\dT"))
    page.get_by_role("button", name="Resume: burst").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause for an hour: burst")).to_be_visible()
    expect(page.get_by_label("Rules, in TOML")).not_to_have_value(re.compile("paused_until"))


def test_a_notice_never_covers_the_last_row_of_a_view_for_good(open_page: OpenPage, site: Site) -> None:
    page = open_page("rules", viewport={"width": 900, "height": 500})
    page.get_by_role("button", name="Only count: burst").click()
    page.get_by_role("dialog").get_by_role("button", name="Only count").click()
    notice = page.locator(".notice").last
    expect(notice).to_be_visible()
    page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
    last = page.locator("#view-rules").bounding_box()
    covering = notice.bounding_box()
    assert last is not None
    assert covering is not None
    assert last["y"] + last["height"] <= covering["y"]


def test_a_limit_is_changed_after_its_effect_is_shown_and_the_change_is_undone(open_page: OpenPage, site: Site) -> None:
    site.attack_seen_by_plan("203.0.113.9")
    page = open_page("rules")
    card = page.locator("article.rule", has_text="burst")
    page.get_by_role("button", name="Change the limit: burst").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Requests within 5s").fill("30")
    dialog.get_by_role("button", name="Show the effect").click()
    expect(dialog).to_contain_text("limit: 20 becomes 30")
    expect(dialog).to_contain_text("would be over")
    dialog.get_by_role("button", name="Put it in force").click()
    expect(card).to_contain_text("30 requests within 5s")
    notice(page, "Version 2 is active").get_by_role("button", name="Undo").click()
    expect(card).to_contain_text("20 requests within 5s")


def test_an_edit_is_neither_lost_nor_applied_over_another_operators(open_page: OpenPage, site: Site) -> None:
    mine, other = open_page("rules"), open_page("rules")
    for page, limit in ((mine, 30), (other, 40)):
        text = page.get_by_label("Rules, in TOML")
        expect(text).to_have_value(re.compile("limit = 20"))
        text.fill(text.input_value().replace("limit = 20", f"limit = {limit}"))
        page.get_by_role("button", name="Plan").click()
        expect(page.get_by_role("button", name="Apply")).to_be_enabled()
    other.get_by_role("button", name="Apply").click()
    expect(mine.locator("#rules-note")).to_contain_text("Version 2")
    mine.get_by_role("button", name="Apply").click()
    expect(mine.get_by_role("alert")).to_contain_text("is active, not 1")
    expect(mine.get_by_label("Rules, in TOML")).to_have_value(re.compile("limit = 30"))


def test_invalid_rules_are_rejected_with_rule_and_key(open_page: OpenPage) -> None:
    page = open_page("rules")
    text = page.get_by_label("Rules, in TOML")
    expect(text).to_have_value(re.compile("limit = 20"))
    text.fill(text.input_value().replace("window", "windw", 1))
    page.get_by_role("button", name="Plan").click()
    expect(page.get_by_role("alert")).to_contain_text("windw")
    expect(page.get_by_role("button", name="Apply")).to_be_disabled()


# --- the breaker, the pause, the audit


def test_a_stopped_rule_is_named_until_an_operator_resets_it(open_page: OpenPage, site: Site) -> None:
    site.stop_rule("burst")
    page = open_page()
    banner = page.get_by_text("The rule burst was stopped")
    expect(banner).to_contain_text(
        "812 of 2,000 known clients within ten minutes, such as 203.0.113.9/32, 198.51.100.7/32"
    )
    page.get_by_role("button", name="Reset").click()
    expect(banner).to_be_hidden()


def test_a_pause_is_visible_in_every_view_until_an_operator_resumes(open_page: OpenPage, site: Site) -> None:
    site.attack("203.0.113.9")
    site.eventually(lambda: bool(site.published()))
    page = open_page()
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("dialog").get_by_role("button", name="Pause and admit every client").click()
    expect(page.locator(".banner")).to_contain_text("no client is blocked")
    site.eventually(lambda: not site.published())
    expect(page.locator("#tiles > div").first).to_contain_text("admitted during the pause")
    page.get_by_role("link", name="Audit").click()
    expect(page.locator(".banner")).to_be_visible()
    page.locator(".banner").get_by_role("button", name="Resume").click()
    expect(page.locator(".banner")).to_have_count(0)
    site.eventually(lambda: bool(site.published()))
    expect(page.locator("#audit")).to_contain_text("Paused: the IP sets are emptied, so no client is blocked")
    expect(page.locator("#audit").get_by_role("button", name="Undo: resumed")).to_be_visible()


def test_a_pause_has_an_end_and_a_reason_and_is_over_in_every_view(open_page: OpenPage, site: Site) -> None:
    page = open_page()
    page.get_by_role("button", name="Pause").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("For").select_option("30 minutes")
    dialog.get_by_label("Comment").fill("load test, ticket 4712")
    dialog.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator(".banner")).to_contain_text(re.compile(r" until .*\(load test, ticket 4712\)"))
    page.get_by_role("link", name="Audit").click()
    expect(page.locator("#audit")).to_contain_text("comment: load test, ticket 4712")
    site.put(Pause(paused=True, until=int(time.time()) + 1))
    expect(page.locator(".banner")).to_have_count(0)
    expect(page.locator("#enforcing")).not_to_have_text("Paused")


def test_a_blocked_office_is_explained_and_allowed_with_an_end_and_a_ticket(open_page: OpenPage, site: Site) -> None:
    site.attack("203.0.113.9")
    site.eventually(lambda: "203.0.113.9/32" in site.published())
    page = open_page()
    page.keyboard.press("/")
    page.keyboard.type("203.0.113.9")
    page.keyboard.press("Enter")
    expect(page.locator("#client .verdict")).to_have_text("Blocked")
    expect(page.locator(".explain")).to_contain_text(re.compile(r"burst: \d+ requests within 5s, limit 20"))
    expect(page).to_have_title("203.0.113.9 - Sluice")
    page.locator("#client").get_by_role("button", name="Allow", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("For").select_option("a week")
    dialog.get_by_label("Comment").fill("branch office, ticket 4712")
    dialog.get_by_role("button", name="Allow").click()
    expect(page.locator("#client .verdict")).to_have_text("Allowlisted")
    site.eventually(lambda: not site.published())
    page.get_by_role("link", name="Allowlist").click()
    entry = page.locator("#allowlist tr").filter(has_text="203.0.113.9")
    expect(entry).to_contain_text("branch office, ticket 4712")
    expect(entry).to_contain_text("in 6d 23h")
    notice(page, "is on the allowlist").get_by_role("button", name="Undo").click()
    expect(entry).to_have_count(0)
    # What is said of the entry that is gone does not stay beside it.
    expect(page.locator(".notice")).to_have_count(1)


def test_a_network_is_not_called_unblocked_while_clients_in_it_are_blocked(open_page: OpenPage, site: Site) -> None:
    site.put_blocks("203.0.113.9/32", "203.0.113.200/32", "198.51.100.1/32")
    page = open_page("client/203.0.113.0%2F24")
    expect(page.locator("#client .verdict")).to_have_text("2 networks in it blocked")
    inside = page.get_by_role("table", name="Blocks in it")
    expect(inside.locator("tbody tr")).to_have_count(2)
    inside.get_by_role("link", name="203.0.113.200").click()
    expect(page.locator("#client .verdict")).to_have_text("Blocked")


def test_a_colleague_takes_over_by_the_audit(open_page: OpenPage, site: Site) -> None:
    page = open_page("allowlist")
    form = page.get_by_role("form", name="Add to the allowlist")
    for network, comment in (("203.0.113.0/24", "ticket 4712"), ("198.51.100.0/28", "ticket 4713")):
        form.get_by_label("Network").fill(network)
        form.get_by_label("Comment").fill(comment)
        form.get_by_role("button", name="Allow").click()
        expect(page.locator("#allowlist")).to_contain_text(comment)
    page.get_by_role("button", name="Remove 203.0.113.0/24").click()
    page.get_by_role("link", name="Audit").click()
    rows = page.locator("#audit tbody tr")
    expect(rows).to_have_count(3)
    page.get_by_role("searchbox", name="Find").fill("4712")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("203.0.113.0/24 is on the allowlist; comment: ticket 4712")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Export as JSON").click()
    (record,) = json.loads(saved.value.path().read_text())
    assert record["by"] == "alice"
    page.get_by_role("searchbox", name="Find").fill("")
    expect(rows).to_have_count(3)
    # Of each target, the newest change alone can be undone: the entry that was removed is put back, not removed again.
    expect(page.locator("#audit").get_by_role("button", name=re.compile("^Undo: 203"))).to_have_count(1)
    page.locator("#audit").get_by_role("button", name="Undo: 203.0.113.0/24 is off the allowlist").click()
    expect(notice(page, "203.0.113.0/24 is on the allowlist")).to_be_visible()


# --- what goes wrong


def test_an_unreachable_api_is_announced_and_the_page_recovers(open_page: OpenPage, site: Site) -> None:
    site.put_blocks("203.0.113.9/32")
    page = open_page("blocks")
    expect(row(page, "203.0.113.9")).to_be_visible()
    page.context.set_offline(True)
    expect(page.locator(".banner")).to_contain_text("The API does not answer")
    expect(row(page, "203.0.113.9")).to_be_visible()
    expect(page.locator("#enforcing")).to_have_text("Not known")
    page.set_viewport_size({"width": 1200, "height": 300})
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.locator(".banner")).to_be_in_viewport()
    page.context.set_offline(False)
    page.locator(".banner").get_by_role("button", name="Try now").click()
    expect(page.locator(".banner")).to_have_count(0)


def test_stored_markup_is_shown_as_text(open_page: OpenPage, site: Site) -> None:
    site.put_blocks("203.0.113.9/32", rule="manual", comment=MARKUP, by=MARKUP)
    page = open_page("blocks")
    expect(row(page, "203.0.113.9")).to_contain_text(MARKUP)
    form = page.get_by_role("form", name="Block by hand")
    form.get_by_label("Network").fill("192.0.2.1")
    form.get_by_label("Comment").fill(MARKUP)
    form.get_by_role("button", name="Block").click()
    expect(notice(page, "192.0.2.1/32 is blocked")).to_be_visible()
    page.goto(f"{site.url}#allowlist")
    allow = page.get_by_role("form", name="Add to the allowlist")
    allow.get_by_label("Network").fill("192.0.2.0/24")
    allow.get_by_label("Comment").fill(MARKUP)
    allow.get_by_role("button", name="Allow").click()
    expect(page.locator("#allowlist")).to_contain_text(MARKUP)
    page.goto(f"{site.url}#client/192.0.2.1")
    expect(page.locator("#client")).to_contain_text(MARKUP)
    assert page.locator("main img, main script").count() == 0
    assert page.title().endswith("Sluice")


def test_ten_thousand_blocks_scroll_without_stalling(open_page: OpenPage, site: Site) -> None:
    site.put_blocks(*(f"10.{number >> 8}.{number & 255}.1/32" for number in range(10_000)))
    page = open_page("blocks")
    expect(page.locator("#blocks-note")).to_contain_text("10,000 blocks")
    box = page.locator("#blocks-list").get_by_role("table")
    last = ""
    for _ in range(200):  # ends as soon as the last row is there
        box.evaluate("box => { box.scrollTop = box.scrollHeight; }")
        page.wait_for_timeout(100)
        last = box.get_by_role("row").last.get_attribute("aria-rowindex") or ""
        if last == "10001":
            break
    assert last == "10001"
    assert box.get_by_role("row").count() < 80
    slowest = page.evaluate(
        """async () => {
            const box = document.querySelector("#blocks-list [role=table]");
            let slowest = 0, before = performance.now();
            for (let step = 0; step < 60; step += 1) {
                box.scrollTop = (box.scrollHeight * step) / 60;
                await new Promise(requestAnimationFrame);
                slowest = Math.max(slowest, performance.now() - before);
                before = performance.now();
            }
            return slowest;
        }"""
    )
    assert slowest < 1000, f"a frame took {slowest:.0f} ms"
    # A click that has begun on a row would be lost.
    moved = page.evaluate(
        """async () => {
            const box = document.querySelector("#blocks-list [role=table]"), moved = [];
            const note = (changes) => changes.forEach((change) => moved.push(...change.removedNodes));
            new MutationObserver(note).observe(box.querySelector(".block-rows"), { childList: true });
            const left = [];
            for (const distance of [-600, 300]) {
                box.scrollTop += distance;
                for (let frame = 0; frame < 3; frame += 1) await new Promise(requestAnimationFrame);
                left.push(moved.filter((row) => row.isConnected).length);
            }
            return [moved.length > 0, ...left];
        }"""
    )
    assert moved == [True, 0, 0]
    button = box.get_by_role("button", name=re.compile("^Unblock")).nth(20)
    network = (button.get_attribute("aria-label") or "").removeprefix("Unblock ")
    top = box.evaluate("box => box.scrollTop")
    box.get_by_role("button", name=f"Unblock {network}", exact=True).click()
    expect(row(page, network.removesuffix("/32") + " ")).to_have_count(0, timeout=30_000)
    assert box.evaluate("box => box.scrollTop") > top / 2


# --- for everybody


@pytest.mark.parametrize(("width", "colors"), [(320, "light"), (390, "dark"), (1200, "light")])
def test_no_view_is_wider_than_the_screen(open_page: OpenPage, site: Site, width: int, colors: str) -> None:
    site.put_blocks("2001:db8:1234:5678::/64", rule="manual", comment="w" * 300)
    page = open_page(viewport={"width": width, "height": 800}, color_scheme=colors)
    for view in VIEWS:
        page.goto(f"{site.url}#{view}")
        expect(page.locator(f"#view-{view.partition('/')[0]}")).to_be_visible()
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view


def test_every_control_has_a_name_and_works_with_the_keyboard(open_page: OpenPage, site: Site) -> None:
    site.put_blocks("203.0.113.9/32")
    page = open_page("blocks")
    expect(row(page, "203.0.113.9")).to_be_visible()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("input, select, textarea, button, a[href]")]
            .filter((e) => !(e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim()))
            .map((e) => e.outerHTML)"""
    )
    assert nameless == []
    button = page.get_by_role("button", name="Unblock 203.0.113.9/32")
    button.focus()
    page.wait_for_timeout(3500)  # the list is redrawn meanwhile, and keeps the focus
    page.keyboard.press("Enter")
    expect(notice(page, "is no longer blocked")).to_be_visible()
    for landmark in ("banner", "navigation", "main", "search"):
        expect(page.get_by_role(landmark)).to_have_count(1)


def test_the_openapi_document_lists_every_file_of_the_page() -> None:
    (parameter,) = document("token")["paths"]["/page/{name}"]["get"]["parameters"]
    assert set(parameter["schema"]["enum"]) == {path.name for path in PAGE.iterdir()} - {"index.html"}
