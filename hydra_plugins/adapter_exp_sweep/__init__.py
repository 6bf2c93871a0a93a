"""Hydra plugins: the launcher of sweeps that survive, and Optuna on top of it."""
