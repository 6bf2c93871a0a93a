"""How many rows are computed together: as many as pay and fit, and fewer when memory runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from adapter_exp.engine.specs import PASS_TOKENS
from adapter_exp.evaluation.specs import BatchSize

# Beyond these a row more costs as much as it brings. SmolLM2 in fp32, one core, processor time of a decoding step per
# row: 1 row 64 ms, 8 rows 17, 16 rows 8.2, 32 rows 5.2, 64 rows 4.3, 96 rows 3.6, 120 rows 3.7.
MOST_ROWS = {"cpu": 64, "cuda": 256}
# The rest is for what is counted here only roughly, and for other processes.
_USED_SHARE = 0.5


@dataclass(frozen=True)
class _Sizes:
    """Bytes that a model's rows take.

    Attributes:
        keys_values: per token that stays, over all layers.
        activations: per token of a pass.
        logits: per row, with the copies that picking makes.
    """

    keys_values: int
    activations: int
    logits: int

    @classmethod
    def of(cls, model: Any) -> _Sizes:
        """Those of ``model``, from its configuration and the dtype of its embeddings."""
        config = model.config.get_text_config()
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        key_heads = getattr(config, "num_key_value_heads", None) or heads
        number: int = model.get_input_embeddings().weight.dtype.itemsize
        return cls(
            keys_values=2 * config.num_hidden_layers * key_heads * width * number,
            activations=(3 * config.intermediate_size + 6 * config.hidden_size + 4 * heads * width) * number,
            logits=40 * config.vocab_size,  # fp32 twice, sorted for top-p with indices, fp64 twice
        )


def rows_for_generation(
    model: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int, batch_size: BatchSize
) -> int:
    """Answers in the making at a time: ``batch_size``, or found from the free memory for ``auto``."""
    sizes = _Sizes.of(model)
    longest = max(map(len, prompts))
    per_row = sizes.keys_values * (longest + max_new_tokens) + sizes.logits
    return _fitting(model, batch_size, per_row, sizes.activations * max(longest, PASS_TOKENS))


def rows_for_scoring(model: Any, rows: Sequence[tuple[Sequence[int], Sequence[int]]], batch_size: BatchSize) -> int:
    """Continuations in one pass: ``batch_size``, or found from the free memory for ``auto``."""
    sizes = _Sizes.of(model)
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    return _fitting(model, batch_size, sizes.activations * longest, sizes.logits)


def halved_when_full(rows: int, attempt: Callable[[int], None]) -> None:
    """Call ``attempt(rows)``, and while memory runs out, again with half as many; it must go on where it was.

    Raises:
        Whatever ``attempt`` raises; out-of-memory only when a single row does not fit.
    """
    while not _fits(attempt, rows):
        rows = max(1, rows // 2)
        _give_back()


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory, of a device or of the machine, could not be had."""
    # torch's own class exists on CPU builds too; its CPU allocator raises RuntimeError with this text instead.
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(error)


def _fitting(model: Any, batch_size: BatchSize, per_row: int, fixed: int) -> int:
    if batch_size != "auto":
        return batch_size
    from adapter_exp.models.free_memory import free_bytes

    usable = int(_USED_SHARE * free_bytes(model.device)) - fixed
    return max(1, min(MOST_ROWS.get(model.device.type, MOST_ROWS["cpu"]), usable // per_row))


def _fits(attempt: Callable[[int], None], rows: int) -> bool:
    try:
        attempt(rows)
    except (MemoryError, RuntimeError) as error:
        if rows == 1 or not out_of_memory(error):
            raise
        return False  # and with the error goes what its traceback held
    return True


def _give_back() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
