"""The scenarios' ``log.py`` are run by name, not collected."""

collect_ignore_glob = ["*/log.py"]
