"""The deployed application: the admin API and the four event handlers, each of which runs one use case and reports it.

Chalice loads ``app.py`` from the project's root, which re-exports these. The handlers are registered on the Chalice
object itself, because those of a Blueprint are deployed under the Blueprint's module and bypass ``app.py``. If a
handler raises, Lambda delivers the same records again.
"""

from chalice.app import Chalice, CloudWatchEvent, DynamoDBEvent, KinesisEvent, Rate

from chalicelib.api.mount import mount
from chalicelib.bootstrap import config, services
from chalicelib.edges.events import kinesis_batch, state_changes

app = Chalice(app_name="sluice")
authorize = mount(app)


@app.on_kinesis_record(
    stream=config().log_stream,
    name="ingest",
    batch_size=10_000,
    starting_position="TRIM_HORIZON",
)
def ingest(event: KinesisEvent) -> None:
    here = services()
    report = here.ingest(kinesis_batch(event.to_dict()), int(here.world.clock() * 1000))
    here.world.telemetry.ingested(report, here.rules.problem)


@app.on_dynamodb_record(
    stream_arn=config().state_stream_arn, name="enforce", batch_size=100, starting_position="TRIM_HORIZON"
)
def enforce(event: DynamoDBEvent) -> None:
    here = services()
    here.world.telemetry.enforced(here.enforce(state_changes(event.to_dict())))


@app.on_dynamodb_record(
    stream_arn=config().state_stream_arn, name="publish", batch_size=1000, starting_position="TRIM_HORIZON"
)
def publish(event: DynamoDBEvent) -> None:
    here = services()
    report = here.publish(state_changes(event.to_dict()))
    if report is not None:
        here.world.telemetry.published(report)


@app.schedule(Rate(1, unit=Rate.MINUTES), name="sweep")
def sweep(event: CloudWatchEvent) -> None:  # noqa: ARG001 - Chalice passes it
    here = services()
    here.world.telemetry.swept(here.sweep())
