"""Checks that messages reach people: alarms about Sluice itself, and notices of what it decides.

Source: Amazon EventBridge User Guide, "Monitoring Amazon EventBridge": metrics of a rule on the default bus have its
name as their dimension, those of another bus the bus's name as well.
"""

from collections.abc import Iterator

from chalicelib.core.wording import plural
from sluice.deploy.account import missing_ok
from sluice.deploy.doctor.inspection import METRIC_PERIOD_S, Finding, Inspection
from sluice.deploy.resources.notices import NoticeRule, WebhookRule
from sluice.deploy.resources.notices import notices as resources_of_notices
from sluice.deploy.resources.topics import topic_arn

PENDING = "PendingConfirmation"
"""ARN of a subscription that its owner has not confirmed."""

CONFIRM = "open the link in the mail from AWS Notifications"


def alarms(inspection: Inspection) -> Iterator[Finding]:
    """Checks that alarms watch the stage, and that they are sent to a person."""
    stage = inspection.stage
    subscribe = inspection.change("--alarm-email ADDRESS", "AlarmEmail=ADDRESS")
    if not (stage.choices.stack or stage.choices.alarms):
        yield Finding("alarms", "no alarm tells anyone if Sluice fails or falls behind", subscribe, wrong=False)
        return
    topic = topic_arn(stage, stage.alarms_topic)
    with missing_ok("NotFound"):
        listed = inspection.account.list_all("sns", "list_subscriptions_by_topic", "Subscriptions", TopicArn=topic)
        states = [each["SubscriptionArn"] for each in listed]
        if not states:
            yield Finding(
                "alarms", "the alarms have no recipient", f"{subscribe}, or subscribe to {topic}", wrong=False
            )
        elif all(state == PENDING for state in states):
            what = "the alarms reach no recipient, because none has confirmed the subscription"
            yield Finding("alarms", what, CONFIRM, wrong=False)


def notices(inspection: Inspection) -> Iterator[Finding]:
    """Checks that announcements arrive where ``--notify`` sends them."""
    stage, account = inspection.stage, inspection.account
    with missing_ok("NotFound"):
        topic = topic_arn(stage, stage.mail_topic)
        listed = account.list_all("sns", "list_subscriptions_by_topic", "Subscriptions", TopicArn=topic)
        waiting = sorted(each["Endpoint"] for each in listed if each["SubscriptionArn"] == PENDING)
        if waiting:
            what = f"announcements do not reach {', '.join(waiting)}: the subscription is not confirmed"
            yield Finding("notices", what, CONFIRM, wrong=False)
    unsent = inspection.metric("Sluice", "AnnouncementFailures", "Sum", service=stage.prefix)
    if unsent:
        what = f"{plural(int(unsent), 'announcement')} could not be sent to the event bus, and will be sent again"
        yield Finding("notices", what, f"read {inspection.log_group('enforce')}")
    for rule in (each for each in resources_of_notices(stage) if isinstance(each, NoticeRule)):
        named = {"RuleName": rule.name} | ({} if rule.bus() == "default" else {"EventBusName": rule.bus()})
        failed = inspection.metric("AWS/Events", "FailedInvocations", "Sum", over_s=METRIC_PERIOD_S, **named)
        if failed:
            what = f"{plural(int(failed), 'announcement')} by the rule {rule.name} did not reach the target"
            remedy = "see that the topic exists, and that its policy lets events.amazonaws.com publish"
            if isinstance(rule, WebhookRule):
                remedy = f"if the webhook has a new address: {inspection.setup} --notify slack:WEBHOOK"
            yield Finding("notices", what, remedy)
