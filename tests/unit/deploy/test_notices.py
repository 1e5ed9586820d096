"""``sluice setup --notify``: rules of EventBridge send announcements to people, and no secret is kept elsewhere."""

import json
import re
from typing import Any

import pytest

from chalicelib.core.announcements import Announcement, of_event
from chalicelib.core.state.events import Event
from sluice.deploy.plan import StepAction
from sluice.deploy.resources.notices import CHAT, NOTICED, PLAIN, WEBHOOK
from sluice.deploy.resources.parameters import remembered
from sluice.deploy.stage import Refusal
from tests.support.deploy.account import NOW, Run, World

WEBHOOK_URL = "https://hooks.slack.com/services/T000/B000/secret"
TOPIC = "arn:aws:sns:us-east-1:123456789012:ops"


def setup(run: Run, *arguments: str) -> str:
    result = run("setup", "--yes", *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def rules(world: World) -> dict[str, dict[str, Any]]:
    """Returns the target of each rule, by the rule's name."""
    client = world.account.client("events")
    names = [rule["Name"] for rule in client.list_rules()["Rules"]]
    return {name: client.list_targets_by_rule(Rule=name)["Targets"][0] for name in names}


def delivered(template: str, announcement: Announcement) -> str:
    """Returns the message that EventBridge makes of an announcement: a variable without quotes becomes JSON."""

    def value(match: re.Match[str]) -> str:
        text: str = getattr(announcement, match[2])
        return f"{match[1]}{text if match[1] or match[3] else json.dumps(text)}{match[3]}"

    return re.sub(r'("?)<(\w+)>("?)', value, template)


def kept(world: World) -> str:
    """Returns all parameters of the stage as one text."""
    ssm = world.account.client("ssm")
    found = ssm.get_parameters_by_path(Path="/sluice/prod", Recursive=True)["Parameters"]
    return json.dumps([each["Value"] for each in found])


def test_addresses_are_mailed_through_a_topic_of_the_stage(world: World, run: Run) -> None:
    setup(run, "--notify", "email:ann@example.com", "--notify", "email:bob@example.com")
    sns = world.account.client("sns")
    ((name, target),) = rules(world).items()
    assert (name, target["Arn"]) == ("sluice-prod-notify-mail", "arn:aws:sns:us-east-1:123456789012:sluice-prod-mail")
    subscribed = sns.list_subscriptions_by_topic(TopicArn=target["Arn"])["Subscriptions"]
    assert sorted(each["Endpoint"] for each in subscribed) == ["ann@example.com", "bob@example.com"]
    (statement,) = json.loads(sns.get_topic_attributes(TopicArn=target["Arn"])["Attributes"]["Policy"])["Statement"]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    pattern = json.loads(world.account.client("events").describe_rule(Name=name)["EventPattern"])
    assert pattern == {"source": ["sluice"], "detail-type": list(NOTICED), "detail": {"stage": ["sluice-prod"]}}
    assert not any(word in each for each in NOTICED for word in ("Unblocked", "Would"))
    stage = world.project.stage("prod")
    assert stage is not None
    assert stage["environment_variables"]["EVENT_BUS"] == "default"


def test_a_second_run_changes_nothing_and_teardown_removes_everything(world: World, run: Run) -> None:
    setup(run, "--notify", "email:ann@example.com", "--notify", "chat", "--notify", f"slack:{WEBHOOK_URL}")
    choices = remembered(world.account, "prod")
    assert choices is not None
    stage = world.stage(**{name: getattr(choices, name) for name in ("notices", "settings")})
    assert {step.action for step in world.plan(stage)} == {StepAction.KEEP}
    world.tear_down(stage)
    events, sns = world.account.client("events"), world.account.client("sns")
    assert (events.list_rules()["Rules"], sns.list_topics()["Topics"]) == ([], [])
    assert (events.list_connections()["Connections"], events.list_api_destinations()["ApiDestinations"]) == ([], [])
    assert [role["RoleName"] for role in world.account.client("iam").list_roles()["Roles"]] == []


def test_the_address_of_a_webhook_is_in_its_api_destination_and_nowhere_else(world: World, run: Run) -> None:
    output = setup(run, "--notify", f"slack:{WEBHOOK_URL}")
    destination = world.account.client("events").describe_api_destination(Name="sluice-prod-webhook")
    assert destination["InvocationEndpoint"] == WEBHOOK_URL
    assert destination["InvocationRateLimitPerSecond"] == 1
    target = rules(world)["sluice-prod-notify-webhook"]
    assert target["Arn"] == destination["ApiDestinationArn"]
    assert target["RoleArn"] == "arn:aws:iam::123456789012:role/sluice-prod-webhook"
    assert "secret" not in output
    assert "hooks.slack.com" not in kept(world)
    assert "hooks.slack.com" not in json.dumps(world.project.config())
    setup(run)
    setup(run, "--notify", "slack:https://hooks.slack.com/services/T000/B000/next")
    changed = world.account.client("events").describe_api_destination(Name="sluice-prod-webhook")
    assert changed["InvocationEndpoint"].endswith("/next")


def test_a_webhook_that_is_gone_has_to_be_named_again(world: World, run: Run) -> None:
    setup(run, "--notify", f"slack:{WEBHOOK_URL}")
    world.account.client("events").delete_api_destination(Name="sluice-prod-webhook")
    result = run("setup", "--yes")
    assert result.exit_code == 1
    assert "--notify slack:URL" in result.output.replace("\n", " ")


def test_a_topic_of_another_owner_is_sent_to_and_left_alone(world: World, run: Run) -> None:
    world.account.client("sns").create_topic(Name="ops")
    setup(run, "--notify", f"sns:{TOPIC}")
    assert [target["Arn"] for target in rules(world).values()] == [TOPIC]
    setup(run, "--no-notify", f"sns:{TOPIC}")
    assert rules(world) == {}
    assert [each["TopicArn"] for each in world.account.client("sns").list_topics()["Topics"]] == [TOPIC]


def test_one_of_two_addresses_is_removed_with_its_subscription_alone(world: World, run: Run) -> None:
    setup(run, "--notify", "email:ann@example.com", "--notify", "email:bob@example.com", "--notify", "chat")
    setup(run, "--no-notify", "email:bob@example.com", "--no-notify", "chat")
    topics = world.account.client("sns").list_topics()["Topics"]
    assert [each["TopicArn"].rpartition(":")[2] for each in topics] == ["sluice-prod-mail"]
    (left,) = world.account.client("sns").list_subscriptions_by_topic(TopicArn=topics[0]["TopicArn"])["Subscriptions"]
    assert left["Endpoint"] == "ann@example.com"
    assert list(rules(world)) == ["sluice-prod-notify-mail"]


HOSTILE = Event(outcome="blocked", network="192.0.2.1/32", by="ann", comment='x"}\n<!channel> \\', until=NOW)
"""A block by hand with a comment that would break JSON out of its quotes."""


def test_the_messages_have_the_forms_that_their_receivers_read() -> None:
    announcement = of_event(HOSTILE, "1-ab/0", NOW * 1000, "sluice-prod")
    chat = json.loads(delivered(CHAT, announcement))
    assert (chat["version"], chat["source"], chat["id"]) == ("1.0", "custom", "1-ab/0")
    assert chat["content"]["title"] == announcement.title
    assert chat["content"]["description"] == announcement.text
    assert len(chat["content"]["title"]) <= 250
    webhook = json.loads(delivered(WEBHOOK, announcement))
    assert (webhook["text"], webhook["attachments"][0]["text"]) == (announcement.title, announcement.text)
    assert delivered(PLAIN, announcement) == f'"{announcement.title}. {announcement.text}"'


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("mail:ann@example.com", "'mail:ann@example.com' is not of the form email:ADDRESS"),
        ("email:ann", "'email:ann' is not of the form"),
        ("sns:ops", "'sns:ops' is not of the form"),
        ("slack:http://hooks.example.com/secret", "slack:... is not of the form"),
        ("https://hooks.example.com/secret", "the address of a webhook needs 'slack:' before it"),
        ("hooks.example.com/secret", "the address of a webhook needs 'slack:' before it"),
        ("email:https://hooks.example.com/secret", "the address of a webhook needs 'slack:' before it"),
    ],
)
def test_a_place_in_another_form_is_refused_and_no_webhook_is_printed(run: Run, place: str, message: str) -> None:
    for option in ("--notify", "--no-notify"):
        result = run("setup", "--yes", option, place)
        assert result.exit_code == 2
        assert message in " ".join(result.output.split())
        assert "secret" not in result.output


def test_places_that_no_rule_can_reach_are_refused(world: World) -> None:
    settings = {"EVENT_BUS": "default"}
    with pytest.raises(Refusal, match="is not in account 123456789012, us-east-1"):
        world.stage(notices=("sns:arn:aws:sns:eu-west-1:123456789012:ops",), settings=settings)
    with pytest.raises(Refusal, match="a bus of this account"):
        world.stage(notices=("chat",), settings={"EVENT_BUS": "arn:aws:events:us-east-1:111122223333:event-bus/ops"})


def test_the_bus_of_notices_cannot_be_changed_under_them(run: Run) -> None:
    setup(run, "--notify", "chat")
    result = run("setup", "--yes", "--set", "EVENT_BUS=other")
    assert result.exit_code == 1
    assert "--no-notify chat" in result.output
