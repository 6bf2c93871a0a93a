"""The plain path, every saving alone, and all of them together."""

from __future__ import annotations

from typing import Any

from adapter_exp.engine.specs import SpeedConfig

OFF: dict[str, Any] = {
    "packing": False,
    "shared_prefix": "never",
    "frozen_cache": False,
    "fused": False,
    "continuous_batching": False,
}
PLAIN = SpeedConfig(**OFF)
PACKED = OFF | {"packing": True}  # which the next two need
SAVINGS = {
    "packing": SpeedConfig(**PACKED),
    "shared_prefix": SpeedConfig(**(PACKED | {"shared_prefix": "always"})),
    "continuous": SpeedConfig(**(PACKED | {"continuous_batching": True})),
    "all": SpeedConfig(),
}
