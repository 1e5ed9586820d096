"""Log files on disk: detected, read and decoded into requests."""
