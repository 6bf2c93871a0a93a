"""How much memory training will take: an estimate. ``python -m adapter_exp.models.memory`` prints a table.

    weights      quantised linears + everything else in the compute dtype
                 bytes per weight: nf4 0.5 + 0.0159 (one 8-bit scale per 64, one fp32 scale per 256 of those);
                 int8 1 + 4 / in_features; none, and nf4 that is kept dequantised: the compute dtype's
    adapter      trainable parameters in float32; full fine-tuning adds none, it trains the base's own
    gradients    one per trainable parameter, 4 bytes; in full fine-tuning of the compute dtype
    optimiser    AdamW's two moments, each like the gradients
    activations  blocks: batch x length x layers x kept x bytes of the compute dtype, where kept = 6 hidden + the
                 outputs of all linears + intermediate (SmolLM2 keeps 0.8 of that, Gemma 3 1.04 of it);
                 logits: batch x answer_tokens x vocabulary x (two copies in the compute dtype + three in float32)

Compared once, with SmolLM2 in float32, LoRA r=16 on q,k,v,o, 4 rows of 256 tokens, logits at all positions, on a CPU:
without quantisation 2.82 GB estimated, 3.42 GB peak resident (0.55 GB of it before the first step);
nf4 2.45 GB estimated, 3.93 GB peak resident (1.24 GB of it before the first step).

Not counted: the libraries (some 0.5 GB resident on a CPU), a GPU's context, what loading leaves behind,
fragmentation, the dequantised weight of the moment, the adapter's own activations, and the copy of the base that full
fine-tuning keeps in main memory.

Source: Dettmers et al. 2023, section 3 (nf4 and double quantisation).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from adapter_exp.adapters import count_parameters
from adapter_exp.adapters.specs import AdapterSpec, FullSpec, LoraSpec, MlpSpec
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
    in_place: bool = False,
    dequantised: bool = False,
) -> MemoryEstimate:
    """Estimate by the formulae at the head of this module.

    Args:
        quantization: ``none``, ``nf4`` or ``int8``.
        trainable: trainable adapter parameters.
        batch, length_tokens: rows and tokens per row of one micro-batch.
        answer_tokens: positions per row at which logits are computed.
        dtype: compute dtype, a key of ``DTYPE_BYTES``.
        vocabulary: entries of the vocabulary projection.
        in_place: the trained parameters are the base's own (full fine-tuning), so they are not counted twice.
        dequantised: nf4 weights are unpacked once and kept in the compute dtype (``quantization.keep``).
    """
    size = DTYPE_BYTES[dtype]
    kept = 6 * shape.hidden_size + sum(out for _, out in shape.linears.values())
    kept += shape.linears["gate_proj"][1] if "gate_proj" in shape.linears else 4 * shape.hidden_size
    blocks = batch * length_tokens * shape.num_layers * kept * size
    logits = batch * answer_tokens * vocabulary * (2 * size + 3 * _FLOAT32_BYTES)
    trained = size if in_place else _FLOAT32_BYTES
    return MemoryEstimate(
        weights=weight_bytes_estimate(shape, quantization, size, dequantised=dequantised),
        adapter=0 if in_place else trainable * trained,
        gradients=trainable * trained,
        optimizer=trainable * 2 * trained,
        activations=blocks + logits,
    )


def weight_bytes_estimate(shape: ModelShape, quantization: str, dtype_bytes: int, *, dequantised: bool = False) -> int:
    """Bytes of the base weights as they are kept in memory.

    Args:
        dtype_bytes: of one number of the compute dtype.
        dequantised: nf4 weights are unpacked once and kept in the compute dtype.
    """
    per_block = sum(i * o for i, o in shape.linears.values())
    whole = shape.parameters - shape.num_layers * per_block
    if quantization == "nf4" and not dequantised:
        quantised = NF4_BYTES * shape.num_layers * per_block
    elif quantization == "int8":
        rows = sum(out for _, out in shape.linears.values())
        quantised = shape.num_layers * (per_block + _FLOAT32_BYTES * rows)
    else:
        quantised = float(dtype_bytes * shape.num_layers * per_block)
    return round(quantised) + dtype_bytes * whole


@dataclass(frozen=True)
class Known:
    """A shipped model: its shape, the entries of its vocabulary, and what the machines it is meant for compute in."""

    shape: ModelShape
    vocabulary: int
    dtype: str


def _known(
    name: str, sides: tuple[int, int, int, int, int], context: int, parameters: int, vocabulary: int, dtype: str
) -> Known:
    """``sides``: decoder layers, hidden size, outputs of q_proj, outputs of k_proj and v_proj, feed-forward width."""
    layers, hidden, query, key, inner = sides
    linears = {
        "q_proj": (hidden, query),
        "k_proj": (hidden, key),
        "v_proj": (hidden, key),
        "o_proj": (query, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }
    return Known(ModelShape(name, layers, hidden, linears, context, parameters), vocabulary, dtype)


# Parameters as counted on meta-device models (tests/models/test_memory.py counts them again).
KNOWN = (
    _known("smollm2_135m", (30, 576, 576, 192, 1536), 8192, 134_515_008, 49_152, "float32"),
    _known("gemma3_270m", (18, 640, 1024, 256, 2048), 32_768, 268_098_176, 262_144, "float32"),
    _known("tinyllama_1b_chat", (22, 2048, 2048, 256, 5632), 2048, 1_100_048_384, 32_000, "bfloat16"),
    _known("llama2_7b_chat", (32, 4096, 4096, 4096, 11008), 4096, 6_738_415_616, 32_000, "bfloat16"),
    _known("mistral_7b_instruct", (32, 4096, 4096, 1024, 14336), 32_768, 7_248_023_552, 32_768, "bfloat16"),
    _known("llama3_8b_instruct", (32, 4096, 4096, 1024, 14336), 8192, 8_030_261_248, 128_256, "bfloat16"),
    _known("llama31_8b_instruct", (32, 4096, 4096, 1024, 14336), 131_072, 8_030_261_248, 128_256, "bfloat16"),
)
ADAPTERS: tuple[tuple[str, AdapterSpec], ...] = (
    ("LoRA r=16, all seven projections", LoraSpec(r=16)),
    ("MLP 64, all layers", MlpSpec(hidden_dim=64)),
    ("full", FullSpec()),
)


def markdown_table(*, batch: int = 4, length_tokens: int = 256, answer_tokens: int = 64) -> str:
    """Model x quantisation x adapter: the total in GB (10^9 bytes), and the weights and activations among it."""
    labels = [label for label, _ in ADAPTERS]
    lines = [
        f"Estimates in GB (10^9 bytes): {batch} rows of {length_tokens} tokens a forward pass, {answer_tokens} of them "
        "answer, no activation checkpointing.",
        "",
        f"| model | computes in | quantisation | weights | activations | {' | '.join(labels)} |",
        "| --- | --- | --- | ---: | ---: |" + " ---: |" * len(labels),
    ]
    for known in KNOWN:
        for quantization in ("none", "int8", "nf4"):
            estimates = [
                _estimate_known(
                    known, spec, quantization, batch=batch, length_tokens=length_tokens, answer_tokens=answer_tokens
                )
                for _, spec in ADAPTERS
            ]
            first = next(e for e in estimates if e is not None)
            parts = (first.weights, first.activations, *(e.total if e else None for e in estimates))
            cells = " | ".join("-" if part is None else f"{part / 1e9:.2f}" for part in parts)
            lines.append(f"| {known.shape.name} | {known.dtype} | {quantization} | {cells} |")
    return "\n".join(lines) + "\n"


def _estimate_known(
    known: Known, spec: AdapterSpec, quantization: str, *, batch: int, length_tokens: int, answer_tokens: int
) -> MemoryEstimate | None:
    """None for full fine-tuning of quantised weights, which is refused."""
    full = isinstance(spec, FullSpec)
    if full and quantization != "none":
        return None
    return estimate(
        known.shape,
        quantization=quantization,
        trainable=count_parameters(spec, known.shape),
        batch=batch,
        length_tokens=length_tokens,
        answer_tokens=answer_tokens,
        dtype=known.dtype,
        vocabulary=known.vocabulary,
        in_place=full,
    )


if __name__ == "__main__":
    sys.stdout.write(markdown_table())
