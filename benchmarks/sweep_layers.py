"""12 jobs, bottleneck 32 to 256 wide x LoRA r 4 to 16 on the last 4 layers, against peft + Trainer scripts.

    python benchmarks/sweep_layers.py                         # the whole sample; 2 of the peer's jobs, times 12
    python benchmarks/sweep_layers.py --peer-jobs 0           # all of its jobs: hours
    python benchmarks/sweep_layers.py --rows 32 --items 8     # small and quick to train: fixed costs weigh more
    python benchmarks/sweep_layers.py --quick                 # does it work?

What is compared, and what is left out of it: sweep_peers.py.
"""

from __future__ import annotations

from itertools import product

from sweep_peers import Job, compare_sweep, sweep_options

WIDTHS, RANKS = (32, 64, 128, 256), (4, 8, 16)


def main() -> None:
    """Run the benchmark."""
    options = sweep_options(__doc__)
    layers = "last:2" if options.quick else "last:4"
    widths, ranks = (WIDTHS[:1], RANKS[:2]) if options.quick else (WIDTHS, RANKS)
    compare_sweep(
        "sweep_layers",
        options,
        axes=[
            f"adapter.mlp.hidden_dim={','.join(map(str, widths))}",
            f"adapter.lora.r={','.join(map(str, ranks))}",
        ],
        fixed=["adapter=lora_mlp", f"adapter.mlp.layers={layers}", f"adapter.lora.layers={layers}"],
        jobs=[
            Job(("--mlp-hidden", str(width), "--r", str(rank), "--layers", layers))
            for width, rank in product(widths, ranks)
        ],
        goal="a tenth of the peer's wall time",
    )


if __name__ == "__main__":
    main()
