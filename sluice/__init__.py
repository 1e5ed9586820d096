"""What runs at the operator's desk and is never deployed: the ``sluice`` command, the local cloud, replay, reports."""
