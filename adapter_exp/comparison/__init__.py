"""Compares runs from their records and predictions alone."""
