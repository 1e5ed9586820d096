"""``sluice setup --alarms``: alarms, dashboard and budget as a stack has them, in moto."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from sluice.deploy.apply import apply, survey, survey_remains
from sluice.deploy.doctor.deployment import drift
from sluice.deploy.doctor.inspection import Finding, Inspection
from sluice.deploy.doctor.messages import alarms as check_alarms
from sluice.deploy.monitoring import Thresholds
from sluice.deploy.plan import StepAction, to_set_up, to_tear_down
from sluice.deploy.resources.monitoring import Alarms, monitoring
from sluice.deploy.resources.parameters import remembered
from sluice.deploy.stage import MONTHLY_BUDGET, Stage
from tests.support.deploy.account import NOW, Run, World
from tests.support.deploy.additions import TEMPLATE
from tests.support.deploy.stack import Stack

TOPIC = "arn:aws:sns:us-east-1:123456789012:sluice-prod-alarms"
NAMES = {
    **{name.capitalize(): f"sluice-prod-{name}" for name in ("ingest", "evaluate", "enforce", "publish", "sweep")},
    "APIHandler": "sluice-prod",
    "LogStream": "sluice-prod-logs",
    "AWS::Region": "us-east-1",
    "Alarms": TOPIC,
    "DeadLetters.QueueName": "sluice-prod-dead-letters",
    "ObjectsDeadLetters.QueueName": "sluice-prod-objects-failed",
}
"""What the stack's references stand for."""


@pytest.fixture
def stage(world: World) -> Stage:
    """A stage with alarms, of which only those are set up."""
    return world.stage(alarms=True, alarm_emails=("ann@example.com",), buckets=("site-logs/",))


def set_up(world: World, stage: Stage) -> set[StepAction]:
    steps = to_set_up(survey(monitoring(stage), world.account))
    apply(steps, world.account, lambda step: None)
    return {step.action for step in steps}


def tear_down(world: World, stage: Stage) -> None:
    apply(to_tear_down(survey_remains(monitoring(stage), world.account)), world.account, lambda step: None)


def made(world: World) -> dict[str, Any]:
    """Returns alarms, dashboards, budgets and topics of the account, each by name, and the subscribed addresses."""
    client, account = world.account.client, "123456789012"
    dashboards = client("cloudwatch").list_dashboards()["DashboardEntries"]
    names = [each["DashboardName"] for each in dashboards]
    return {
        "alarms": {each["AlarmName"]: each for each in client("cloudwatch").describe_alarms()["MetricAlarms"]},
        "dashboards": {
            name: json.loads(client("cloudwatch").get_dashboard(DashboardName=name)["DashboardBody"]) for name in names
        },
        "budgets": {
            each["BudgetName"]: each for each in client("budgets").describe_budgets(AccountId=account)["Budgets"]
        },
        "topics": [each["TopicArn"] for each in client("sns").list_topics()["Topics"]],
        "addresses": [each["Endpoint"] for each in client("sns").list_subscriptions()["Subscriptions"]],
    }


def stacked(resource: str) -> Any:
    """Returns the properties of a resource of the stack, with the names that its references stand for."""
    stack = Stack(TEMPLATE, {"Stage": "prod"})
    text = json.dumps(stack.value(TEMPLATE["Resources"][resource]["Properties"]))
    for reference, name in sorted(NAMES.items(), key=lambda pair: -len(pair[0])):
        text = text.replace(f'"{reference}"', f'"{name}"').replace(f'\\"{reference}\\"', f'\\"{name}\\"')
    return json.loads(text)


def test_setup_makes_the_alarms_dashboard_and_budget_of_the_stack(world: World, stage: Stage) -> None:
    set_up(world, stage)
    by_setup = made(world)
    names = {name for name, each in TEMPLATE["Resources"].items() if each.get("Type") == "AWS::CloudWatch::Alarm"}
    assert by_setup["alarms"].keys() == {f"sluice-prod-{name}" for name in names}
    for name in names:
        alarm, of_stack = by_setup["alarms"][f"sluice-prod-{name}"], stacked(name)
        of_stack.pop("Tags")
        assert float(of_stack.pop("Threshold")) == alarm["Threshold"], name
        assert int(of_stack.pop("EvaluationPeriods")) == alarm["EvaluationPeriods"], name
        assert {key: alarm[key] for key in of_stack} == of_stack
    assert by_setup["dashboards"] == {"sluice-prod": json.loads(stacked("Dashboard")["DashboardBody"])}
    of_stack = stacked("Budget")["Budget"]
    (budget,) = by_setup["budgets"].values()
    assert float(of_stack.pop("BudgetLimit")["Amount"]) == float(budget["BudgetLimit"]["Amount"])
    assert {key: budget[key] for key in of_stack} == of_stack
    assert by_setup["topics"] == [TOPIC]
    assert by_setup["addresses"] == ["ann@example.com"]


def test_thresholds_are_the_defaults_of_the_stacks_parameters() -> None:
    defaults = {name: each.get("Default") for name, each in TEMPLATE["Parameters"].items()}
    assert asdict(Thresholds()) == {
        "iterator_age_ms": 1000 * defaults["IteratorAgeSeconds"],
        "malformed_percent": defaults["MalformedPercent"],
        "ip_set_fill_percent": defaults["IpSetFillPercent"],
        "paused_minutes": defaults["PausedMinutes"],
        "replayed_records": defaults["ReplayedRecords"],
    }
    assert defaults["MonthlyBudget"] == MONTHLY_BUDGET


def test_only_cloudwatch_and_budgets_of_the_account_may_notify(world: World, stage: Stage) -> None:
    set_up(world, stage)
    attributes = world.account.client("sns").get_topic_attributes(TopicArn=TOPIC)["Attributes"]
    (statement,) = json.loads(attributes["Policy"])["Statement"]
    (of_stack,) = TEMPLATE["Resources"]["AlarmsPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Principal"] == of_stack["Principal"]
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}
    notifications = world.account.client("budgets").describe_notifications_for_budget(
        AccountId="123456789012", BudgetName="sluice-prod"
    )["Notifications"]
    assert [(each["NotificationType"], each["Threshold"]) for each in notifications] == [
        ("ACTUAL", 80),
        ("FORECASTED", 100),
    ]


def test_a_plan_shows_all_of_it_with_its_price_and_a_second_run_changes_nothing(world: World, run: Run) -> None:
    planned = json.loads(run("setup", "--alarm-email", "ann@example.com", "--dry-run", "--json").stdout)
    assert not any(made(world).values())
    kinds = {"CloudWatch alarms", "CloudWatch dashboard", "budget", "SNS topic", "e-mail subscription"}
    assert kinds <= {step["kind"] for step in planned["steps"] if step["action"] == "create"}
    bill = {item["item"]: item["usd"] for item in planned["cost"]["items"]}
    assert (bill["CloudWatch alarms"], bill["CloudWatch dashboard"]) == (2.10, 3.00)
    assert "KMS key of the alarms' topic" not in bill
    assert run("setup", "--alarm-email", "ann@example.com", "--yes").exit_code == 0
    steps = json.loads(run("setup", "--dry-run", "--json").stdout)["steps"]
    assert {step["action"] for step in steps} == {"exists"}


def test_no_alarms_removes_them_and_alarms_brings_them_back(world: World, run: Run) -> None:
    assert run("setup", "--alarm-email", "ann@example.com", "--monthly-budget", "500", "--yes").exit_code == 0
    before = made(world)
    assert run("setup", "--no-alarms", "--yes").exit_code == 0
    assert {name: each for name, each in made(world).items() if each and name != "addresses"} == {}
    assert run("setup", "--alarms", "--yes").exit_code == 0
    after = made(world)
    assert after["alarms"].keys() == before["alarms"].keys()
    assert after["budgets"]["sluice-prod"]["BudgetLimit"] == {"Amount": "500", "Unit": "USD"}
    assert run("setup", "--monthly-budget", "0", "--yes").exit_code == 0
    assert made(world)["budgets"] == {}
    assert run("setup", "--monthly-budget", "900", "--yes").exit_code == 0
    assert run("setup", "--monthly-budget", "700", "--yes").exit_code == 0
    assert made(world)["budgets"]["sluice-prod"]["BudgetLimit"]["Amount"] == "700"
    choices = remembered(world.account, "prod")
    assert choices is not None
    world.tear_down(world.stage(alarms=True, alarm_emails=choices.alarm_emails))
    assert {name: each for name, each in made(world).items() if each and name != "addresses"} == {}


def test_an_address_can_be_removed(world: World, run: Run) -> None:
    for address in ("ann@example.com", "bob@example.com"):
        assert run("setup", "--alarm-email", address, "--yes").exit_code == 0
    assert sorted(made(world)["addresses"]) == ["ann@example.com", "bob@example.com"]
    assert run("setup", "--no-alarm-email", "ann@example.com", "--yes").exit_code == 0
    assert made(world)["addresses"] == ["bob@example.com"]
    choices = remembered(world.account, "prod")
    assert choices is not None
    assert (choices.alarms, choices.alarm_emails) == (True, ("bob@example.com",))


def test_a_threshold_of_an_operator_is_kept_and_everything_else_is_repaired(world: World, stage: Stage) -> None:
    set_up(world, stage)
    client, name = world.account.client("cloudwatch"), "sluice-prod-MalformedFlood"
    (alarm,) = client.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    own = {key: alarm[key] for key in ("Metrics", "EvaluationPeriods", "ComparisonOperator", "TreatMissingData")}
    client.put_metric_alarm(AlarmName=name, Threshold=50, AlarmDescription="old", **own)
    existing = Alarms(stage, stage.prefix).find(world.account)
    assert existing is not None
    assert existing.differences == ["MalformedFlood differs"]
    set_up(world, stage)
    (alarm,) = client.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert (alarm["Threshold"], alarm["AlarmActions"]) == (50, [TOPIC])
    assert alarm["AlarmDescription"].startswith("Many log lines are malformed")


def test_the_alarm_of_objects_goes_with_the_last_bucket(world: World, stage: Stage) -> None:
    set_up(world, stage)
    without = replace(stage, choices=replace(stage.choices, buckets=()))
    assert set_up(world, without) == {StepAction.KEEP, StepAction.CHANGE}
    assert "sluice-prod-ObjectsFailed" not in made(world)["alarms"]
    assert set_up(world, without) == {StepAction.KEEP}


def test_what_others_own_under_these_names_is_left_alone(world: World, stage: Stage) -> None:
    client = world.account.client
    body = json.dumps({"widgets": []})
    client("cloudwatch").put_dashboard(DashboardName="sluice-prod", DashboardBody=body)
    budget = {"BudgetName": "sluice-prod", "BudgetType": "COST", "TimeUnit": "MONTHLY"}
    limit = {"BudgetLimit": {"Amount": "1", "Unit": "USD"}}
    client("budgets").create_budget(AccountId="123456789012", Budget=budget | limit)
    client("sns").create_topic(Name="sluice-prod-alarms")
    steps = to_set_up(survey(monitoring(stage), world.account))
    refused = {step.resource.kind for step in steps if step.action is StepAction.REFUSE}
    assert refused == {"CloudWatch dashboard", "budget", "SNS topic"}
    tear_down(world, stage)
    left = made(world)
    assert (left["dashboards"], len(left["budgets"]), left["topics"]) == ({"sluice-prod": {"widgets": []}}, 1, [TOPIC])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--monthly-budget", "100"], "--monthly-budget: the budget notifies the topic of the alarms. Add --alarms"),
        (["--alarm-email", "ann"], "--alarm-email 'ann': use an address, such as ops@example.com"),
        (["--alarm-email", "a@b.example", "--no-alarms"], "--alarm-email and --no-alarms contradict each other"),
    ],
)
def test_choices_that_cannot_work_are_refused(run: Run, options: list[str], words: str) -> None:
    refused = run("setup", "--dry-run", *options)
    assert refused.exit_code != 0
    assert words in refused.stderr


@pytest.mark.parametrize("options", [["--alarms"], ["--alarm-email", "a@b.example"], ["--monthly-budget", "3"]])
def test_a_stack_has_its_own_alarms(world: World, run: Run, options: list[str]) -> None:
    stacked = world.stage(stack="sluice-prod")
    world.account.client("ssm").put_parameter(
        Name="/sluice/prod/setup", Type="String", Value=stacked.choices.to_json(), Tags=stacked.tag_list
    )
    refused = run("setup", "--dry-run", *options)
    assert "stack sluice-prod owns this. Update the stack with its parameter" in refused.stderr
    assert monitoring(stacked) == []


def test_doctor_finds_what_is_missing_and_alarms_that_notify_nobody(world: World) -> None:
    def found(*checks: Any, **choices: Any) -> list[Finding]:
        inspection = Inspection(world.stage(**choices), world.account, world.project, NOW)
        return [finding for check in checks for finding in check(inspection)]

    (finding,) = found(check_alarms)
    assert (finding.what, finding.wrong) == ("no alarm tells anyone if Sluice fails or falls behind", False)
    assert finding.remedy == "sluice setup --stage prod --region us-east-1 --alarm-email ADDRESS"
    world.set_up(world.stage(alarms=True))
    (finding,) = found(check_alarms, drift, alarms=True)
    assert finding.what == "the alarms have no recipient"
    assert "--alarm-email ADDRESS" in finding.remedy
    world.set_up(world.stage(alarms=True, alarm_emails=("ann@example.com",)))
    world.account.client("cloudwatch").delete_alarms(AlarmNames=["sluice-prod-HeartbeatMissing"])
    (finding,) = found(drift, alarms=True, alarm_emails=("ann@example.com",))
    assert finding.what == "CloudWatch alarms sluice-prod: lacks HeartbeatMissing"
