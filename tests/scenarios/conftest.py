"""The scenarios' ``log.py`` files are run by path, not collected."""

collect_ignore_glob = ["*/log.py"]
