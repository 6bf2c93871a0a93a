"""What an adapter is, as plain typed values; imports neither torch nor peft."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

LayerChoice = str | tuple[Annotated[int, Field(ge=0)], ...]
"""``all``, ``last:N``, ``first:N``, ``every:N`` or a list of layer numbers counted from 0."""

ModuleNames = tuple[str, ...]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class LoraSpec(_Spec):
    """LoRA (Hu et al. 2021); ``dora``: Liu et al. 2024; ``rslora``: rank-stabilised scaling, Kalajdzievski 2023."""

    kind: Literal["lora"] = "lora"
    r: int = Field(16, ge=1)
    alpha: float = Field(32, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: ModuleNames = Field(("q_proj", "k_proj", "v_proj", "o_proj"), min_length=1)
    layers: LayerChoice = "all"
    dora: bool = False
    rslora: bool = False


class MlpSpec(_Spec):
    """Bottleneck adapter: down-projection, activation, dropout, up-projection, residual (Houlsby et al. 2019)."""

    kind: Literal["mlp"] = "mlp"
    hidden_dim: int = Field(64, ge=1)
    layers: LayerChoice = "all"
    dropout: float = Field(0.0, ge=0, lt=1)
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    placement: Literal["block", "attention", "feed_forward", "both"] = "block"
    mode: Literal["sequential", "parallel"] = "sequential"
    init: Literal["zero", "normal"] = "zero"


class LoraMlpSpec(_Spec):
    """LoRA and a bottleneck adapter trained together."""

    kind: Literal["lora_mlp"] = "lora_mlp"
    lora: LoraSpec = LoraSpec()
    mlp: MlpSpec = MlpSpec()


class FullSpec(_Spec):
    """Full fine-tuning: every weight of the base is trained."""

    kind: Literal["full"] = "full"


class NoneSpec(_Spec):
    """The base model alone, evaluated and not trained."""

    kind: Literal["none"] = "none"


class SavedSpec(_Spec):
    """An adapter that an earlier run saved: scored, not trained."""

    kind: Literal["saved"] = "saved"
    path: str = Field(min_length=1)


AdapterSpec = Annotated[LoraSpec | MlpSpec | LoraMlpSpec | FullSpec | NoneSpec | SavedSpec, Field(discriminator="kind")]
