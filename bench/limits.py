"""DynamoDB's limits and speed, as a model. Nothing of Sluice's is imported, so that earlier versions can use it, too.

Source: DynamoDB Developer Guide, "Read/write capacity" and "Best practices for designing and using partition keys".
"""

from collections.abc import Callable, Mapping

READ_BYTES, WRITE_BYTES = 4096, 1024
KEY_READS_S, KEY_WRITES_S = 3000, 1000
"""Most units per second of one partition key."""

TABLE_READS_S, TABLE_WRITES_S = 12_000, 4000
"""Most units per second of a new on-demand table."""

CALL_S = 0.005
"""Seconds of a call to DynamoDB within its Region."""

ITEM_S = 0.000025
"""CPU seconds in which boto3 parses an item of a block, measured on one full vCPU."""

Units = Mapping[str, float]
"""Units by partition key."""


class Limits:
    """DynamoDB's limits: a call waits until its keys and the table have the units. Units last for a second.

    DynamoDB may serve more in a burst, which is not assumed.

    ``sleep`` lets other calls proceed.
    """

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._clock = clock
        self._sleep = sleep
        self._free_at: dict[tuple[str, str], float] = {}
        """Time at which the units of all calls so far have been served, by reads or writes and by partition key."""

    def spend(self, reads: Units, writes: Units, items: int) -> None:
        """Waits for a call with these units, which returns or writes ``items`` items."""
        now = self._clock()
        ready = now
        for name, units, per_key, per_table in (
            ("read", reads, KEY_READS_S, TABLE_READS_S),
            ("write", writes, KEY_WRITES_S, TABLE_WRITES_S),
        ):
            for key, number in [*units.items(), ("", sum(units.values()))]:
                free_at = max(now - 1, self._free_at.get((name, key), 0)) + number / (per_key if key else per_table)
                self._free_at[name, key] = free_at
                ready = max(ready, free_at)
        self._sleep(ready - now + CALL_S + ITEM_S * items)
