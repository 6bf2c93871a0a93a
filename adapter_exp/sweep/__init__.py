"""Multirun sweeps: what is shared between jobs, what survives when one breaks."""
