"""Collation, losses, the Trainer glue and checkpoints."""
