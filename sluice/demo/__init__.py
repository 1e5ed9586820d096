"""The demonstration: made-up traffic, the local cloud, and what became of it."""
