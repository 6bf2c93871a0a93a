"""Base models: where they come from, how they are quantised, one per process."""

from adapter_exp.models.quiet import quiet_loggers

quiet_loggers()
