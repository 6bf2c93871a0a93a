"""The bottleneck adapter around a module: attention, the feed-forward part, or a whole decoder block."""

from __future__ import annotations

from typing import Any, cast

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}
INIT_STD = 0.01  # Houlsby et al. 2019, section 3.6: the widest start that still trains stably


class BottleneckLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]  # peft is untyped
    """Adds ``up(dropout(activation(down(x))))`` to the output of the module it wraps, ``(..., width)``.

    x is the module's output (``sequential``, Houlsby et al. 2019) or its input (``parallel``, He et al. 2022). The
    adapter computes in its own dtype and its result is cast to that of the hidden states. Several adapters live side
    by side by name; those that are active are applied one after the other.

    Attributes that this class lacks are the wrapped module's, so code that reads ``layer_idx`` or ``self_attn`` from a
    decoder block finds them. One difference remains: ``output_hidden_states`` records a block's output before an
    adapter around that block.
    """

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")
    other_param_names = ("bottleneck_dropout", "bottleneck_activation", "mode")

    def __init__(self, base_layer: nn.Module, *, is_block: bool) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.is_block = is_block
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self.bottleneck_dropout = nn.ModuleDict()
        self.bottleneck_activation = nn.ModuleDict()
        self.mode: dict[str, str] = {}
        self._disable_adapters = False
        self._active_adapter: list[str] = []
        self.merged_adapters: list[str] = []

    def add(self, name: str, config: Any, *, width: int) -> None:
        """Add a freshly initialised adapter on the wrapped module's device, in fp32."""
        place = next(self.base_layer.parameters()).device
        down, up = nn.Linear(width, config.hidden_dim), nn.Linear(config.hidden_dim, width)
        for linear in (down, up):
            nn.init.normal_(linear.weight, std=INIT_STD)
            nn.init.zeros_(linear.bias)
        if config.init == "zero":
            nn.init.zeros_(up.weight)
        self.bottleneck_down[name], self.bottleneck_up[name] = down.float().to(place), up.float().to(place)
        self.bottleneck_dropout[name] = nn.Dropout(config.dropout)
        self.bottleneck_activation[name] = ACTIVATIONS[config.activation]()
        self.mode[name] = config.mode
        self.set_adapter(self.active_adapters)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the wrapped module and adapt its hidden states, its output or the first entry of its output tuple."""
        output = self.base_layer(*args, **kwargs)
        if self.disable_adapters:
            return output
        inputs = args[0] if args else kwargs["hidden_states"]
        if isinstance(output, tuple):
            return (self._adapt(inputs, output[0]), *output[1:])
        return self._adapt(inputs, output)

    def _adapt(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        for name in self.active_adapters:
            if name in self.bottleneck_down:
                down, up = cast(nn.Linear, self.bottleneck_down[name]), self.bottleneck_up[name]
                source = inputs if self.mode[name] == "parallel" else hidden
                narrow = self.bottleneck_activation[name](down(source.to(down.weight.dtype)))
                hidden = hidden + up(self.bottleneck_dropout[name](narrow)).to(hidden.dtype)
        return hidden

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":  # not built yet, as while unpickling
                raise
            return getattr(self.base_layer, name)
