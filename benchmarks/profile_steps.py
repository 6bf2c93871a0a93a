"""A profile of a few training steps, by what the time goes into; used through `ours.py --profile`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile
from transformers import TrainerCallback

GROUPS = {
    "optimiser": ("_foreach_", "_fused_", "aten::_amp"),
    "attention": ("aten::_scaled_dot_product", "aten::scaled_dot_product", "aten::_flash_attention"),
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::linear", "aten::matmul"),
    "4-bit unpacking": ("bitsandbytes::",),
    "copies": ("aten::copy_", "aten::_to_copy", "aten::cat", "aten::clone", "aten::index", "aten::_index"),
    "elementwise": (
        "aten::mul",
        "aten::add",
        "aten::sub",
        "aten::div",
        "aten::neg",
        "aten::silu",
        "aten::rsqrt",
        "aten::pow",
        "aten::mean",
        "aten::sum",
        "aten::fill_",
        "aten::zero_",
        "aten::sigmoid",
        "aten::exp",
    ),
    "loss": ("aten::_log_softmax", "aten::nll_loss", "aten::log_softmax"),
}
"""Beginnings of the names of torch's operations; the first group that fits takes one, "other" takes the rest."""


def profiler(steps: int, path: Path) -> type[TrainerCallback]:
    """A callback that profiles ``steps`` steps of every training, the first left out, and writes seconds by group."""

    class Profiled(TrainerCallback):
        """Times operations between the ends of the first and of the last step it profiles."""

        def on_step_end(self, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
            """Begin after the first step, end after the last."""
            if state.global_step == 1:
                self._profile = profile(activities=[ProfilerActivity.CPU])
                self._profile.__enter__()
            elif state.global_step == 1 + steps:
                self._profile.__exit__(None, None, None)
                path.write_text(json.dumps(seconds_by_group(self._profile)), encoding="utf-8")

    return Profiled


def seconds_by_group(measured: profile) -> dict[str, Any]:
    """Seconds of each group, and the ten largest operations of "other"."""
    seconds = dict.fromkeys([*GROUPS, "other"], 0.0)
    others: dict[str, float] = {}
    for event in measured.key_averages():
        group = next((name for name, begins in GROUPS.items() if event.key.startswith(begins)), "other")
        own_s = event.self_cpu_time_total / 1e6
        seconds[group] += own_s
        if group == "other":
            others[event.key] = own_s
    largest = dict(sorted(others.items(), key=lambda item: -item[1])[:10])
    return {"seconds": seconds, "largest_other": largest}
