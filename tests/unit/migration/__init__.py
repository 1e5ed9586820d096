"""Tests of the migration from other limiters."""
