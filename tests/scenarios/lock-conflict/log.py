"""One offender, and a foreign update between the publisher's read and its write."""

from collections.abc import Iterator
from typing import Any

from sluice.local.cloud import LocalCloud
from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    yield request(0, "203.0.113.9", cs_uri_stem="/wp-admin/setup.php")


def happen(cloud: LocalCloud) -> None:
    update = cloud.waf.update_ip_set

    def overtaken(**asked: Any) -> dict[str, Any]:
        cloud.waf.update_ip_set = update
        update(**{**asked, "Addresses": ["198.51.100.0/24"]})
        cloud.loop.sleep(1.1)
        return update(**asked)

    cloud.waf.update_ip_set = overtaken
