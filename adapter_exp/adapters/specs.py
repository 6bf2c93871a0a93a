"""What an adapter is, as plain typed values; imports neither torch nor peft.

Numbers and flags are strict: ``r: true`` or ``r: "16"`` is a mistake in a file, not a rank.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from adapter_exp.adapters.layers import check_choice

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The seven projections of a Llama, Mistral or Gemma decoder layer."""


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is named more than once")
    return names


LayerChoice = Annotated[str | tuple[int, ...], BeforeValidator(check_choice)]
"""``all``, ``last:N``, ``first:N``, ``every:N`` or a list of layer numbers counted from 0."""

ModuleNames = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1), AfterValidator(_each_once)
]
Count = Annotated[int, Field(strict=True, ge=1)]
Share = Annotated[float, Field(strict=True, ge=0, lt=1)]
Flag = Annotated[bool, Field(strict=True)]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LoraSpec(_Spec):
    """LoRA: ``W x + alpha / r * B A x`` beside frozen weights W (Hu et al. 2021, section 4.1).

    Attributes:
        r: rank of A and B.
        alpha: scale of the update, divided by ``r`` (by the root of ``r`` with ``rslora``).
        dropout: share of the inputs of A that is dropped in training.
        target_modules: linear layers inside a decoder layer, by name.
        layers: decoder layers that get it.
        dora: train magnitude and direction apart (Liu et al. 2024).
        rslora: rank-stabilised scaling (Kalajdzievski 2023).
    """

    kind: Literal["lora"] = "lora"
    r: Count = 16
    alpha: float = Field(32, strict=True, gt=0, allow_inf_nan=False)
    dropout: Share = 0.0
    target_modules: ModuleNames = LINEARS
    layers: LayerChoice = "all"
    dora: Flag = False
    rslora: Flag = False


class MlpSpec(_Spec):
    """Bottleneck adapter: ``up(dropout(activation(down(x))))`` added to a module's output (Houlsby et al. 2019).

    Attributes:
        hidden_dim: width of the bottleneck.
        layers: decoder layers that get it.
        dropout: share of the bottleneck that is dropped in training.
        activation: between the two projections.
        placement: after the whole decoder layer (``block``), after self-attention or after the feed-forward part before
            their residual addition (``attention``, ``feed_forward``), or after ``both`` as in Houlsby et al.
        mode: ``sequential`` reads the module's output, ``parallel`` its input (He et al. 2022).
        init: ``zero`` starts as the exact identity; ``normal`` draws the weights from N(0, 0.01**2), biases zero.
    """

    kind: Literal["mlp"] = "mlp"
    hidden_dim: Count = 64
    layers: LayerChoice = "all"
    dropout: Share = 0.0
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
