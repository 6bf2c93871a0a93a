"""How to train, as plain typed values under their usual names; imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(strict=True, ge=1)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class TrainerConfig(BaseModel):
    """Settings of one training run; ``null`` means what the field's comment says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: Number = Field(2, gt=0)
    max_steps: Count | None = None  # null: as many as the epochs need
    batch_size: Count = 8
    gradient_accumulation_steps: Count = 1
    learning_rate: Number = Field(1e-3, gt=0, le=1)
    weight_decay: Number = Field(0.0, ge=0)
    max_grad_norm: Number = Field(1.0, ge=0)  # 0: no clipping
    warmup_ratio: Number = Field(0.1, ge=0, lt=1)  # share of the steps
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    optimizer: Literal["adamw", "paged_adamw_8bit"] = "adamw"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: the base's compute dtype
    activation_checkpointing: bool = False
    compile: bool = False  # decoder layers through torch.compile; minutes on a CPU before the first step
    logging_steps: Count = 1
    eval_steps: Count | None = None  # validation loss; null: after every epoch
    save_steps: Count | None = None  # checkpoints; null: after every epoch
    save_total_limit: Count = 2
    early_stopping_patience: Count | None = None  # evaluations without a better loss; null: never stop early
    load_best: bool = True  # end with the weights of the lowest validation loss
    answer_only_logits: bool = True
    length_buckets: bool = True

    @model_validator(mode="after")
    def _check(self) -> TrainerConfig:
        if self.early_stopping_patience is not None and not self.load_best:
            raise ValueError("early_stopping_patience needs load_best=true: stopping early on other weights is a loss")
        return self
