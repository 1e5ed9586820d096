"""A model of units, CPU, memory, cost and delay at any rate, compared with the measured pipeline at low rates."""
