"""Admin use cases, one module per subject. Stores, caller and time are arguments."""
