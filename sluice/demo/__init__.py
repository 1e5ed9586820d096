"""The demonstration: made-up traffic, sent through the local cloud, and a summary of the outcome."""
