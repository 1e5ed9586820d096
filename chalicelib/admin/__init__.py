"""What operators may ask and change, a module a subject. Stores, caller and time are arguments."""
