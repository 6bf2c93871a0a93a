"""Compute dtype and bitsandbytes settings."""

from __future__ import annotations

import math
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from adapter_exp.errors import UserError

if TYPE_CHECKING:
    import torch

    from adapter_exp.models.specs import QuantizationConfig

_MATMUL_SIZE = 512
# bfloat16 changes scores with the batch size, so on a CPU it has to be clearly faster to be worth it.
_WORTHWHILE = 1.3


def choose_dtype(device: torch.device, wanted: str = "auto") -> tuple[torch.dtype, str]:
    """The compute dtype and a printable reason.

    ``auto``: on CUDA bfloat16 where the device has it, else float16; on a CPU float32, unless a timed matrix product
    shows bfloat16 to be at least 1.3 times faster (instruction flags alone are no evidence).
    """
    import torch

    if wanted != "auto":
        return getattr(torch, wanted), f"{wanted}: asked for"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, f"bfloat16: {torch.cuda.get_device_name(device)} computes in it"
        return torch.float16, f"float16: {torch.cuda.get_device_name(device)} has no bfloat16"
    full_ms, half_ms = matmul_ms()
    dtype = torch.bfloat16 if half_ms * _WORTHWHILE < full_ms else torch.float32
    timing = (
        f"a {_MATMUL_SIZE} x {_MATMUL_SIZE} product takes {full_ms:.2f} ms in float32 and {half_ms:.2f} ms in bfloat16"
    )
    return dtype, f"{str(dtype).removeprefix('torch.')}: on a core of this CPU {timing}"


@cache
def matmul_ms() -> tuple[float, float]:
    """Milliseconds of one square matrix product on a core in float32 and bfloat16 (best of ten; once per process).

    Processor time of one thread: on a busy machine wall times of two threads say more about the other work, and a run
    would now and then compute in the other dtype.
    """
    import torch

    matrices = [torch.ones(_MATMUL_SIZE, _MATMUL_SIZE, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)]
    best_s = [math.inf, math.inf]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for matrix in matrices:
            matrix @ matrix  # the first call compiles the kernel
        for _ in range(10):
            for number, matrix in enumerate(matrices):
                start = time.thread_time()
                matrix @ matrix
                best_s[number] = min(best_s[number], time.thread_time() - start)
    finally:
        torch.set_num_threads(threads)
    return 1e3 * best_s[0], 1e3 * best_s[1]


def bitsandbytes_config(quantization: QuantizationConfig, compute_dtype: torch.dtype) -> Any:
    """transformers' ``BitsAndBytesConfig``, or None for ``none``; the vocabulary projection is left whole by all."""
    from transformers import BitsAndBytesConfig

    if quantization.kind == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=quantization.double_quant,
            bnb_4bit_compute_dtype=compute_dtype,
        )
    if quantization.kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return None


def keep_exact_on_cpu(model: torch.nn.Module) -> None:
    """Forbid bitsandbytes' repacking of 4-bit weights for CPUs with AVX512-BF16.

    The first evaluation without gradients would rewrite the weights in place and from then on compute in bfloat16
    through a kernel that has no backward pass: a base that was scored before training would give adapters in lower
    layers no gradient, without an error.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def choose_device(wanted: str) -> torch.device:
    """``auto`` (CUDA when there is one, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UserError: if the device is unknown or absent.
    """
    import torch

    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UserError(f"device: '{wanted}' is unknown; use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device: '{wanted}' is not supported; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device: '{wanted}' is not there ({torch.cuda.device_count()} CUDA devices); use auto or cpu")
    return device
