"""The record of a run and its copies in MLflow."""
