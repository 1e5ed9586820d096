"""Builders, stand-ins and drivers that tests share. No tests here."""
