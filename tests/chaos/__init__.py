"""The whole pipeline under every mishap: each run, and each failure, can be repeated from its seed."""
