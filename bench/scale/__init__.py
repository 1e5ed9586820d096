"""Sluice at any size: a model of units, CPU, memory, dollars and delay, held to the pipeline where it is small."""
