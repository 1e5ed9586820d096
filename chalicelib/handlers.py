"""What the event handlers of ``app.py`` do: an event in, a use case, a report out."""

from collections.abc import Mapping
from typing import Any

from chalicelib.bootstrap import services
from chalicelib.edges.events import kinesis_batch, state_changes


def ingest(event: Mapping[str, Any]) -> None:
    """Whatever it raises makes Lambda deliver the same records again."""
    here = services()
    report = here.ingest(kinesis_batch(event), int(here.world.clock() * 1000))
    here.world.telemetry.ingested(report, here.rules.problem)


def enforce(event: Mapping[str, Any]) -> None:
    """Whatever it raises makes Lambda deliver the same changes again."""
    here = services()
    here.world.telemetry.enforced(here.enforce(state_changes(event)))


def publish(event: Mapping[str, Any]) -> None:
    """Whatever it raises makes Lambda deliver the same changes again."""
    here = services()
    report = here.publish(state_changes(event))
    if report is not None:
        here.world.telemetry.published(report)


def sweep() -> None:
    here = services()
    here.world.telemetry.swept(here.sweep())
