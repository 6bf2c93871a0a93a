"""Print, as JSON, what the machine is and how fast it multiplies matrices of the embedded model's shapes.

python benchmarks/machine.py
"""

from __future__ import annotations

import json
import os
import platform
import time

import torch

WIDTH, INNER, KEYS = 576, 1536, 192
TOKENS = 512
LAYER = ((WIDTH, WIDTH), (WIDTH, KEYS), (WIDTH, KEYS), (WIDTH, WIDTH), (WIDTH, INNER), (WIDTH, INNER), (INNER, WIDTH))
"""(inputs, outputs) of the seven projections of a decoder layer of SmolLM2-135M."""
ROUNDS = 12


def matmul_gflops(tokens: int = TOKENS) -> float:
    """Rate of a layer's seven products and of the products that carry their gradients back, in float32, in 1e9/s.

    Median over rounds, so that a short disturbance does not count; two floating-point operations a multiply-add.
    """
    weights = [torch.randn(outputs, inputs) for inputs, outputs in LAYER]
    forward = [torch.randn(tokens, inputs) for inputs, _ in LAYER]
    backward = [torch.randn(tokens, outputs) for _, outputs in LAYER]
    operations = 2 * 2 * tokens * sum(inputs * outputs for inputs, outputs in LAYER)
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for weight, x, gradient in zip(weights, forward, backward, strict=True):
            x @ weight.T
            gradient @ weight
        times.append(time.perf_counter() - began)
    return operations / sorted(times)[len(times) // 2] / 1e9


def gpu_matmul_gflops(width: int = 4096, inner: int = 14336, tokens: int = 4096) -> float:
    """Rate of an 8-billion-parameter Llama's largest product in bfloat16 on the CUDA device, in 1e9/s."""
    x = torch.randn(tokens, width, device="cuda", dtype=torch.bfloat16)
    weight = torch.randn(inner, width, device="cuda", dtype=torch.bfloat16)
    times = []
    for _ in range(ROUNDS):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(ROUNDS):
            x @ weight.T
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return 2 * tokens * width * inner * ROUNDS / sorted(times)[len(times) // 2] / 1e9


if __name__ == "__main__":
    facts = {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "platform": platform.machine(),
        "load_1min": round(os.getloadavg()[0], 1),
        "matmul_gflops": matmul_gflops(),
    }
    if torch.cuda.is_available():
        facts |= {"gpu": torch.cuda.get_device_name(), "gpu_matmul_gflops": gpu_matmul_gflops()}
    print(json.dumps(facts))
