"""A clock for tests."""


class Clock:
    """Stands still except while ``sleep`` is called."""

    def __init__(self, now: float = 1_760_000_000) -> None:
        """Starts at ``now``, in epoch seconds."""
        self.now = now

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
