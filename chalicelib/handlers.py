"""The deployed application: the admin API and the event handlers, each of which runs one use case and reports it.

Chalice loads ``app.py`` from the project's root, which re-exports these. The handlers are registered on the Chalice
object itself, because those of a Blueprint are deployed under the Blueprint's module and bypass ``app.py``. If a
handler raises, Lambda delivers the same records again.

``import_objects`` is deployed only where a queue is configured; without one, it costs nothing
(docs/development/decisions/015-objects.md).
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from chalice.app import Chalice, CloudWatchEvent, DynamoDBEvent, EventSourceHandler, KinesisEvent, Rate, SQSEvent

from chalicelib.api.mount import mount
from chalicelib.bootstrap import Services, config, services
from chalicelib.edges.events import adds_items, failed, kinesis_batch, notifications, state_changes, time_left_s
from chalicelib.pipeline.import_objects import NotImported
from chalicelib.pipeline.tally_logs import OutOfTime

MOST_IMPORTERS = 4
"""Containers of ``import_objects`` at a time: as many as there are logs to append to."""

app = Chalice(app_name="sluice")
authorize = mount(app)


@app.on_kinesis_record(stream=config().log_stream, name="ingest", batch_size=10_000, starting_position="TRIM_HORIZON")
def ingest(event: KinesisEvent) -> None:
    container = services()
    now_ms = int(container.world.clock() * 1000)
    container.world.telemetry.ingested(container.ingest.run(kinesis_batch(event.to_dict()), now_ms))


def _on_notifications(function: Callable[[SQSEvent], Any]) -> EventSourceHandler:
    """Makes ``function`` a handler of the queue of notifications, which is deployed if there is one."""
    queue = config().objects_queue
    if not queue:
        return EventSourceHandler(function, SQSEvent)
    register = app.on_sqs_message(queue=queue, name="import_objects", batch_size=1, maximum_concurrency=MOST_IMPORTERS)
    handler: EventSourceHandler = register(function)
    return handler


@_on_notifications
def import_objects(event: SQSEvent) -> dict[str, Any]:
    """Answers with the messages that failed; raises NotImported if all did.

    Each batch holds a single message unless the event source reports failures message by message
    (``ReportBatchItemFailures``), which Chalice cannot turn on: Lambda would ignore the answer, and lose them.
    """
    container = services()
    messages = notifications(event.to_dict())
    report = container.import_objects.run(messages, time_left_s(event.context))
    container.world.telemetry.imported(report)
    if len(report.failures) == len(messages):
        raise NotImported("; ".join(report.failures.values()))
    return failed(report.failures)


@app.on_dynamodb_record(
    stream_arn=config().tally_stream_arn, name="evaluate", batch_size=10_000, starting_position="TRIM_HORIZON"
)
def evaluate(event: DynamoDBEvent) -> None:
    if adds_items(event.to_dict()):
        container = services()
        now_ms = int(container.world.clock() * 1000)
        report = container.evaluate.run(now_ms, time_left_s(event.context))
        container.world.telemetry.evaluated(report)
        if report.unfinished is not None:
            raise OutOfTime(report.unfinished)


# A batch of ten detections has at most 10,000 offenders: about 20 seconds of writes to one partition of the table.
@app.on_dynamodb_record(
    stream_arn=config().state_stream_arn, name="enforce", batch_size=10, starting_position="TRIM_HORIZON"
)
def enforce(event: DynamoDBEvent) -> None:
    container = services()
    changes = state_changes(event.to_dict())
    container.world.telemetry.enforced(container.enforce.run(changes))
    container.world.telemetry.announced(container.announce.run(changes))


@app.on_dynamodb_record(
    stream_arn=config().state_stream_arn, name="publish", batch_size=1000, starting_position="TRIM_HORIZON"
)
def publish(event: DynamoDBEvent) -> None:
    container = services()
    report = container.publish.run(state_changes(event.to_dict()), time_left_s(event.context), waits=False)
    if report is not None:
        container.world.telemetry.published(report)


@app.schedule(Rate(1, unit=Rate.MINUTES), name="sweep")
def sweep(event: CloudWatchEvent) -> None:
    container = services()
    # Each is called, the last one first, even if one before has raised: none may keep the others from their work.
    with ExitStack() as work:
        work.callback(_count_quotas, container, event)
        work.callback(_check_feeds, container)
        work.callback(_add_up, container)
        container.world.telemetry.swept(container.sweep.run())


def _check_feeds(container: Services) -> None:
    report = container.check_feeds.run()
    if report is not None:
        container.world.telemetry.fed(report)


def _add_up(container: Services) -> None:
    report = container.add_up.run()
    if report is not None:
        container.world.telemetry.trended(report)


def _count_quotas(container: Services, event: CloudWatchEvent) -> None:
    report = container.quotas.run(int(container.world.clock() * 1000), time_left_s(event.context))
    if report is not None:
        container.world.telemetry.rolled_up(report)
