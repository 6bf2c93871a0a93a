"""What each configuration cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from adapter_exp.comparison.model import Configuration, CostRow
from adapter_exp.tracking.record import RecordData

TRAINING = "train"


def cost_rows(configurations: Sequence[Configuration]) -> tuple[CostRow, ...]:
    """One row for each configuration, medians over its runs."""
    return tuple(_row(one) for one in configurations)


def _row(one: Configuration) -> CostRow:
    def middle(read: Callable[[RecordData], float | None]) -> float | None:
        known = [value for run in one.runs if (value := read(run.record)) is not None]
        return median(known) if known else None

    trainable = middle(lambda record: record["model"].get("trainable_parameters"))
    total = middle(lambda record: record["model"].get("total_parameters"))
    return CostRow(
        configuration=one.name,
        trainable_parameters=_whole(trainable),
        share=trainable / total if trainable is not None and total else None,
        saved_bytes=_whole(middle(lambda record: record["model"].get("adapter_bytes"))),
        wall_s=middle(lambda record: record["resources"].get("wall_s")),
        training_s=middle(lambda record: record["resources"].get("phases_s", {}).get(TRAINING)),
        tokens_per_s=middle(lambda record: record["training"].get("tokens_per_s")),
        peak_rss_bytes=_whole(middle(lambda record: record["resources"].get("peak_rss_bytes"))),
        peak_device_bytes=_whole(middle(lambda record: record["resources"].get("peak_device_bytes"))),
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
