"""Adapter kinds behind one small interface."""
