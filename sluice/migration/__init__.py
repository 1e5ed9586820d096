"""Migration from other limiters: their configuration, read without changing it, as rules, lists and log sources."""
