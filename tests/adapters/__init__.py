"""Tests of the adapter kinds."""
