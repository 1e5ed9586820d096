"""Sluice and its rivals on one log, whose clients are known to exceed a limit or not.

``traffic`` writes the log and knows the truth, ``programs`` runs each rival, ``score`` compares both, and
``python -m bench.rivals`` prints the table of README.
"""
