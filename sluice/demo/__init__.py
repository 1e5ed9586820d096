"""The demonstration: simulated traffic, sent through the local cloud, and a summary of the outcome."""
