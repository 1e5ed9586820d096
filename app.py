"""The Lambda functions and the admin API.

Event handlers stand here: declared on a Blueprint they would deploy past this module.
"""

from chalice.app import Chalice, CloudWatchEvent, DynamoDBEvent, KinesisEvent, Rate

from chalicelib import handlers
from chalicelib.api.routes import api
from chalicelib.bootstrap import config

app = Chalice(app_name="sluice")
app.register_blueprint(api)


@app.on_kinesis_record(
    stream=config().log_stream,
    name="ingest",
    batch_size=10_000,
    starting_position="TRIM_HORIZON",
)
def ingest(event: KinesisEvent) -> None:
    handlers.ingest(event.to_dict())


@app.on_dynamodb_record(
    stream_arn=config().state_stream_arn, name="enforce", batch_size=100, starting_position="TRIM_HORIZON"
)
def enforce(event: DynamoDBEvent) -> None:
    handlers.enforce(event.to_dict())


@app.on_dynamodb_record(
    stream_arn=config().state_stream_arn, name="publish", batch_size=1000, starting_position="TRIM_HORIZON"
)
def publish(event: DynamoDBEvent) -> None:
    handlers.publish(event.to_dict())


@app.schedule(Rate(1, unit=Rate.MINUTES), name="sweep")
def sweep(event: CloudWatchEvent) -> None:  # noqa: ARG001 - Chalice passes it
    handlers.sweep()
