"""Base models: where they come from, how they are quantised, one per process."""
