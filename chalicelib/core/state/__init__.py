"""The records of the state table, by kind, and their JSON form.

Times are in epoch seconds, or in epoch milliseconds if their name ends in ``_ms``. What is stored may be damaged, typed
by hand or of another version: ``StateRecord.read`` returns only records whose values every reader can use.
"""
