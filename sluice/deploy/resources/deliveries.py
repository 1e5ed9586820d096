"""Deliveries of access logs by CloudWatch Logs: from a distribution or a load balancer to the stage's log group.

A source stands for the resource that logs, a destination for the log group, and a delivery connects them. Sluice owns
the deliveries to the stage's log group. A resource has one source for a kind of log, which may have another owner and
then serves both (Amazon CloudWatch Logs User Guide, "Enable logging from AWS services").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.stage import Refusal

GONE = "ResourceNotFoundException"
STATE_CHANGES = ("ConflictException",)
"""Error code of CloudWatch Logs while an earlier change of a delivery is being made."""

DISTRIBUTION_FIELDS = (
    *("timestamp(ms)", "c-ip", "x-edge-request-id", "cs-method", "x-host-header", "cs-uri-stem", "sc-status"),
    *("cs(User-Agent)", "cs(Referer)", "x-forwarded-for", "c-country", "asn", "sc-content-type", "sc-bytes"),
    "time-taken",
)
"""Fields of CloudFront's standard log that rules, measures and trusted proxies read."""

LOAD_BALANCER_FIELDS = (
    *("type", "time", "elb", "client_port", "target_port", "request_processing_time", "target_processing_time"),
    *("response_processing_time", "elb_status_code", "target_status_code", "received_bytes", "sent_bytes"),
    *("request_line", "user_agent", "ssl_cipher", "ssl_protocol", "target_group_arn", "trace_id", "domain_name"),
    *("chosen_cert_arn", "matched_rule_priority", "request_creation_time", "actions_executed", "redirect_url"),
    *("error_reason", "target_port_list", "target_status_code_list", "classification", "classification_reason"),
    *("conn_trace_id", "transformed_host", "transformed_uri", "request_transform_status", "ip_address"),
)
"""Fields of a load balancer's access log, all of which are mandatory."""


class DeliveryDestination(Resource):
    """The destination for the stage's log group. Its format, JSON, can never change."""

    kind = "log delivery destination"

    @missing_ok(GONE)
    def find(self, account: AwsAccount) -> Existing | None:
        answer = account.client("logs").get_delivery_destination(name=self.name)["deliveryDestination"]
        group = answer["deliveryDestinationConfiguration"]["destinationResourceArn"].removesuffix(":*")
        return Existing(ours=group == self._group_arn and answer.get("outputFormat") == "json")

    def create(self, account: AwsAccount) -> None:
        account.client("logs").put_delivery_destination(
            name=self.name,
            outputFormat="json",
            deliveryDestinationConfiguration={"destinationResourceArn": self._group_arn},
        )

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        delete = account.client("logs").delete_delivery_destination
        account.retry(delete, STATE_CHANGES, name=self.name)

    @property
    def _group_arn(self) -> str:
        return self.stage.location.arn("logs", f"log-group:{self.stage.access_log_group}")


@dataclass(frozen=True, slots=True)
class LogDelivery(Resource):
    """The delivery of the log of ``resource_arn``, which has another owner, and its source if that has no other."""

    log_type: ClassVar[str]
    fields: ClassVar[tuple[str, ...]]

    resource_arn: str

    def find(self, account: AwsAccount) -> Existing | None:
        source = self.source(account)
        for delivery in self._deliveries(account, source):
            if delivery["deliveryDestinationArn"] == self.destination_arn:
                same = set(delivery.get("recordFields", ())) == set(self.fields)
                facts = {"id": delivery["id"], "source": source}
                return Existing(ours=True, differences=[] if same else ["fields"], facts=facts)
            if delivery["deliveryDestinationType"] == "CWL":
                return Existing(
                    ours=False,
                    obstacle=f"is not possible: the log goes to {delivery['deliveryDestinationArn']} already, and "
                    "CloudWatch Logs delivers a log to one log group. If its format is JSON, count that log group with "
                    "--log-group instead",
                )
        return None

    def remains(self, account: AwsAccount) -> Existing | None:
        """Returns the delivery, or the stage's source that an interrupted run has left without one."""
        source = self.source(account)
        ids = [
            delivery["id"]
            for delivery in self._deliveries(account, source)
            if delivery["deliveryDestinationArn"] == self.destination_arn
        ]
        facts = {"id": next(iter(ids), None), "source": source}
        return Existing(ours=True, facts=facts) if ids or source == self.own_source else None

    def keeps(self, existing: Existing) -> str:
        return f"{DeliveryDestination.kind} {self.stage.prefix}" if existing.facts["id"] else ""

    def create(self, account: AwsAccount) -> None:
        client, source = account.client("logs"), self.source(account)
        if source is None:
            source = self.own_source
            client.put_delivery_source(name=source, resourceArn=self.resource_arn, logType=self.log_type)
        account.retry(
            client.create_delivery,
            STATE_CHANGES,
            deliverySourceName=source,
            deliveryDestinationArn=self.destination_arn,
            recordFields=list(self.fields),
        )

    def change(self, account: AwsAccount, existing: Existing) -> None:
        update = account.client("logs").update_delivery_configuration
        account.retry(update, STATE_CHANGES, id=existing.facts["id"], recordFields=list(self.fields))

    def remove(self, account: AwsAccount, existing: Existing) -> None:
        client, own = account.client("logs"), existing.facts["id"]
        if own:
            account.retry(client.delete_delivery, STATE_CHANGES, id=own)
        # Deliveries of others keep the source. AWS may still show the one that was just deleted.
        others = [each for each in self._deliveries(account, self.own_source) if each["id"] != own]
        if existing.facts["source"] == self.own_source and not others:
            account.retry(client.delete_delivery_source, STATE_CHANGES, name=self.own_source)

    def source(self, account: AwsAccount) -> str | None:
        """Returns the name of the resource's source for this kind of log; None if it has none."""
        for source in account.list_all("logs", "describe_delivery_sources", "deliverySources"):
            if self.resource_arn in source["resourceArns"] and source["logType"] == self.log_type:
                name: str = source["name"]
                return name
        return None

    def _deliveries(self, account: AwsAccount, source: str | None) -> list[Mapping[str, Any]]:
        deliveries = account.list_all("logs", "describe_deliveries", "deliveries")
        return [delivery for delivery in deliveries if delivery["deliverySourceName"] == source]

    @property
    def own_source(self) -> str:
        return f"{self.stage.prefix}-{self.name}"

    @property
    def destination_arn(self) -> str:
        return self.stage.location.arn("logs", f"delivery-destination:{self.stage.prefix}")


class DistributionDelivery(LogDelivery):
    """The delivery of a distribution's standard log, version 2, which CloudFront keeps in us-east-1."""

    kind = "CloudFront standard log delivery"
    log_type = "ACCESS_LOGS"
    fields = DISTRIBUTION_FIELDS

    def find(self, account: AwsAccount) -> Existing | None:
        existing = super().find(account)
        if existing is None:
            with missing_ok("NoSuchDistribution"):
                account.client("cloudfront").get_distribution_config(Id=self.name)
                return None
            raise Refusal(
                f"distribution {self.name} does not exist; 'aws cloudfront list-distributions' lists those that do"
            )
        return existing


class LoadBalancerDelivery(LogDelivery):
    """The delivery of a load balancer's access log."""

    kind = "load balancer log delivery"
    log_type = "ALB_ACCESS_LOGS"
    fields = LOAD_BALANCER_FIELDS
