"""The subcommands of ``sluice``. Related ones share a module."""
