"""8 jobs, LoRA r x alpha on all layers, against peft + Trainer scripts.

    python benchmarks/sweep_rank.py                           # the whole sample; 2 of the peer's jobs, times 8
    python benchmarks/sweep_rank.py --peer-jobs 0             # all of its jobs: hours
    python benchmarks/sweep_rank.py --rows 32 --items 8       # small and quick to train: fixed costs weigh more
    python benchmarks/sweep_rank.py --quick                   # does it work?

What is compared, and what is left out of it: sweep_peers.py.
"""

from __future__ import annotations

from itertools import product

from sweep_peers import Job, compare_sweep, sweep_options

RANKS, ALPHAS = (4, 8, 16, 32), (16, 32)


def main() -> None:
    """Run the benchmark."""
    options = sweep_options(__doc__)
    ranks, alphas = (RANKS[:1], ALPHAS) if options.quick else (RANKS, ALPHAS)
    compare_sweep(
        "sweep_rank",
        options,
        axes=[f"adapter.r={','.join(map(str, ranks))}", f"adapter.alpha={','.join(map(str, alphas))}"],
        fixed=["adapter=lora"],
        jobs=[Job(("--r", str(rank), "--alpha", str(alpha))) for rank, alpha in product(ranks, alphas)],
        goal="a quarter of the peer's wall time",
    )


if __name__ == "__main__":
    main()
