"""Readers of the published raw formats."""
