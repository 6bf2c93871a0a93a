"""How much memory training will take: an estimate. ``python -m adapter_exp.models.memory`` prints a table.

    weights      quantised linears + everything else in the compute dtype
                 bytes per weight: nf4 0.5 + 0.0159 (one 8-bit scale per 64, one fp32 scale per 256 of those);
                 int8 1 + 4 / in_features; none: the compute dtype's
    adapter      trainable parameters in float32
    gradients    4 bytes per trainable parameter
    optimiser    8 bytes per trainable parameter (AdamW's two moments in float32)
    activations  blocks: batch x length x layers x kept x bytes of the compute dtype, where kept = 6 hidden + the
                 outputs of all linears + intermediate (SmolLM2 keeps 0.8 of that, Gemma 3 1.04 of it);
                 logits: batch x answer_tokens x vocabulary x (two copies in the compute dtype + three in float32)

Compared once, with SmolLM2 in float32, LoRA r=16 on q,k,v,o, 4 rows of 256 tokens, logits at all positions, on a CPU:
without quantisation 2.82 GB estimated, 3.42 GB peak resident (0.55 GB of it before the first step);
nf4 2.45 GB estimated, 3.93 GB peak resident (1.24 GB of it before the first step).

Not counted: the libraries (some 0.5 GB resident on a CPU), a GPU's context, what loading leaves behind,
fragmentation, the dequantised weight of the moment.

Source: Dettmers et al. 2023, section 3 (nf4 and double quantisation).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from adapter_exp.models.shape import ModelShape

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
_FLOAT32_BYTES = 4
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class MemoryEstimate:
    """Estimated bytes of one training step by what they hold."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.adapter + self.gradients + self.optimizer + self.activations


def estimate(
    shape: ModelShape,
    *,
    quantization: str,
    trainable: int,
    batch: int,
    length_tokens: int,
    answer_tokens: int,
    dtype: str,
    vocabulary: int,
) -> MemoryEstimate:
    """Estimate by the formulae at the head of this module.

    Args:
        quantization: ``none``, ``nf4`` or ``int8``.
        trainable: trainable adapter parameters.
        batch, length_tokens: rows and tokens per row of one micro-batch.
        answer_tokens: positions per row at which logits are computed.
        dtype: compute dtype, a key of ``DTYPE_BYTES``.
        vocabulary: entries of the vocabulary projection.
    """
    size = DTYPE_BYTES[dtype]
    kept = 6 * shape.hidden_size + sum(out for _, out in shape.linears.values())
    kept += shape.linears["gate_proj"][1] if "gate_proj" in shape.linears else 4 * shape.hidden_size
    blocks = batch * length_tokens * shape.num_layers * kept * size
    logits = batch * answer_tokens * vocabulary * (2 * size + 3 * _FLOAT32_BYTES)
    return MemoryEstimate(
        weights=weight_bytes_estimate(shape, quantization, size),
        adapter=trainable * _FLOAT32_BYTES,
        gradients=trainable * _FLOAT32_BYTES,
        optimizer=trainable * 2 * _FLOAT32_BYTES,
        activations=blocks + logits,
    )


def weight_bytes_estimate(shape: ModelShape, quantization: str, dtype_bytes: int) -> int:
    """Bytes of the base weights as stored."""
    per_block = sum(i * o for i, o in shape.linears.values())
    whole = shape.parameters - shape.num_layers * per_block
    if quantization == "nf4":
        quantised = NF4_BYTES * shape.num_layers * per_block
    elif quantization == "int8":
        rows = sum(out for _, out in shape.linears.values())
        quantised = shape.num_layers * (per_block + _FLOAT32_BYTES * rows)
    else:
        quantised = float(dtype_bytes * shape.num_layers * per_block)
    return round(quantised) + dtype_bytes * whole


def _llama(name: str, layers: int, hidden: int, key: int, inner: int, context: int, parameters: int) -> ModelShape:
    linears = {
        "q_proj": (hidden, hidden),
        "k_proj": (hidden, key),
        "v_proj": (hidden, key),
        "o_proj": (hidden, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }
    return ModelShape(name, layers, hidden, linears, context, parameters)


# Shape and vocabulary; parameters as counted on meta-device models (tests/models/test_memory.py counts them again).
KNOWN = (
    (_llama("smollm2_135m", 30, 576, 192, 1536, 8192, 134_515_008), 49_152),
    (_llama("tinyllama_1b_chat", 22, 2048, 256, 5632, 2048, 1_100_048_384), 32_000),
    (_llama("mistral_7b_instruct", 32, 4096, 1024, 14336, 32768, 7_248_023_552), 32_768),
    (_llama("llama31_8b_instruct", 32, 4096, 1024, 14336, 131072, 8_030_261_248), 128_256),
)
ADAPTERS = (("lora r=16 q,k,v,o", 16, ("q_proj", "k_proj", "v_proj", "o_proj")),)


def markdown_table(
    *, batch: int = 8, length_tokens: int = 512, answer_tokens: int = 64, dtype: str = "bfloat16"
) -> str:
    """Model x quantisation with LoRA r=16 on the attention projections, in GB (10^9 bytes)."""
    lines = [
        f"Estimates, GB: batch {batch}, {length_tokens} tokens a row, {answer_tokens} answer tokens, {dtype}.",
        "",
        "| model | quantisation | adapter | trainable | weights | adapter, gradients, AdamW | activations | total |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for shape, vocabulary in KNOWN:
        for label, rank, targets in ADAPTERS:
            trainable = shape.num_layers * sum(rank * sum(shape.linears[t]) for t in targets)
            for quantization in ("none", "int8", "nf4"):
                e = estimate(
                    shape,
                    quantization=quantization,
                    trainable=trainable,
                    batch=batch,
                    length_tokens=length_tokens,
                    answer_tokens=answer_tokens,
                    dtype=dtype,
                    vocabulary=vocabulary,
                )
                parts = (e.weights, e.adapter + e.gradients + e.optimizer, e.activations, e.total)
                cells = " | ".join(f"{part / 1e9:.2f}" for part in parts)
                lines.append(f"| {shape.name} | {quantization} | {label} | {trainable:,} | {cells} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown_table())
