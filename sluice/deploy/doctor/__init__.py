"""Checks of a deployed stage, which find what is wrong and name the remedy. Nothing is changed."""
