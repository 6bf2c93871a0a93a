"""What all benchmarks share: processes run in turn, medians and spreads, ratios against a peer, a table and a file.

A case is run once in every repeat, all cases one after the other, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "outputs" / "benchmarks"
PEERS = Path(__file__).resolve().parent / "peers"
PEERS_PYTHON = REPOSITORY / ".venv-peers" / "bin" / "python"

Measured = dict[str, float]
"""What one run of a case gave: ``wall_s`` of the whole process and whatever else it measures, by name."""


@dataclass(frozen=True)
class Case:
    """One way of doing the work.

    Attributes:
        run: does it once, given the number of the repeat.
        peer: whether ratios are taken against it.
    """

    name: str
    run: Callable[[int], Measured]
    peer: bool = False


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        key: of ``Measured``.
        more_is_better: as for examples per second.
        ratio: show how many times better than the best peer each case is.
        scale: shown values are the measured ones times this.
    """

    key: str
    title: str
    more_is_better: bool = False
    ratio: bool = False
    scale: float = 1.0


def arguments(description: str | None, *, repeats: int) -> argparse.ArgumentParser:
    """The options of every benchmark; ``overrides`` go to every run of ours."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=repeats, help=f"runs of every case (default {repeats})")
    parser.add_argument("--quick", action="store_true", help="does it work? tiny model, once, no figures")
    parser.add_argument("--peers-python", type=Path, default=PEERS_PYTHON, help="of the peers' environment")
    parser.add_argument("overrides", nargs="*", default=[], help="more overrides for our runs")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options; ``--quick`` means one repeat with the tiny model."""
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.overrides = 1, ["model=tiny", *options.overrides]
    return options


def cache_folder() -> Path:
    """Where this machine keeps converted models, as ``conf/config.yaml`` says."""
    return Path(os.environ.get("ADAPTER_EXP_CACHE", "~/.cache/adapter_exp")).expanduser()


def run_process(
    command: Sequence[str | Path], folder: Path, *, environment: Mapping[str, str] | None = None
) -> Measured:
    """Run a command to its end in ``folder``; its output goes to ``run.log`` there.

    Returns:
        ``wall_s`` of the process from start to exit and ``peak_rss_bytes``.

    Raises:
        SystemExit: with the end of its output, when it fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    search = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    variables = {**os.environ, "PYTHONPATH": search, "TOKENIZERS_PARALLELISM": "false", **(environment or {})}
    with (folder / "run.log").open("wb") as log:
        began = time.perf_counter()
        process = subprocess.Popen(list(map(str, command)), cwd=folder, env=variables, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = (folder / "run.log").read_text(encoding="utf-8", errors="replace")[-3000:]
        sys.exit(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{tail}")
    return {"wall_s": wall_s, "peak_rss_bytes": usage.ru_maxrss * 1024.0}


def interleaved(
    cases: Sequence[Case], repeats: int
) -> tuple[dict[str, list[Measured]], tuple[dict[str, Any], dict[str, Any]]]:
    """Run all cases once in each repeat; the order turns around from repeat to repeat.

    Returns:
        by case what each repeat gave, and ``machine()`` before and after: its rates show how steady the machine was.
    """
    before = machine()
    results: dict[str, list[Measured]] = {case.name: [] for case in cases}
    for repeat in range(repeats):
        for case in cases if repeat % 2 == 0 else reversed(cases):
            began = time.perf_counter()
            results[case.name].append(case.run(repeat))
            print(f"{case.name}: {time.perf_counter() - began:.1f} s ({repeat + 1} of {repeats})", file=sys.stderr)
    return results, (before, machine())


def machine() -> dict[str, Any]:
    """Cores, threads, versions and the rate of matrix products, measured now in a process of its own."""
    script = Path(__file__).resolve().parent / "machine.py"
    found: dict[str, Any] = json.loads(subprocess.check_output([sys.executable, script], text=True))
    return found


def report(
    name: str,
    cases: Sequence[Case],
    results: Mapping[str, Sequence[Measured]],
    columns: Sequence[Column],
    *,
    machines: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    goal: str,
) -> None:
    """Print the Markdown table and write everything to ``outputs/benchmarks/NAME.json``.

    Args:
        results, machines: of ``interleaved``.
        goal: the sentence below the table that says what was asked.
    """
    print(f"\n## {name}\n")
    print("\n".join(table(cases, results, columns)))
    print(f"\nAsked: {goal}\n\nCommand: {' '.join(['python', *map(_short, sys.argv)])}\n")
    rates = ", ".join(f"{found['matmul_gflops']:.0f}" for found in machines)
    facts = {key: value for key, value in machines[0].items() if key != "matmul_gflops"}
    print(f"Machine: {', '.join(f'{key} {value}' for key, value in facts.items())}; matmul {rates} GFLOP/s")
    write(name, {"settings": settings, "goal": goal, "machine": list(machines), "results": results})


def write(name: str, content: Mapping[str, Any]) -> None:
    """Write ``outputs/benchmarks/NAME.json`` and say so."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    stamped = {"benchmark": name, "at": time.strftime("%Y-%m-%dT%H:%M:%S"), "command": sys.argv, **content}
    path.write_text(json.dumps(stamped, indent=1, default=str, ensure_ascii=False), encoding="utf-8")
    print(f"Written: {path.relative_to(REPOSITORY)}")


def table(cases: Sequence[Case], results: Mapping[str, Sequence[Measured]], columns: Sequence[Column]) -> list[str]:
    """Lines of a Markdown table: median (smallest to largest) of every column, ratios against the best peer."""
    header, rule = ["case"], ["---"]
    for column in columns:
        header += [column.title, *(["times better"] if column.ratio else [])]
        rule += ["---:", *(["---:"] if column.ratio else [])]
    lines = [header, rule]
    for case in cases:
        cells = [case.name]
        for column in columns:
            cells.append(spread([run[column.key] * column.scale for run in results[case.name] if column.key in run]))
            if column.ratio:
                cells.append(_against_best_peer(case, cases, results, column))
        lines.append(cells)
    return [f"| {' | '.join(cells)} |" for cells in lines]


def ratios(first: Sequence[Measured], second: Sequence[Measured], column: Column) -> list[float]:
    """How many times better ``first`` is than ``second``, repeat by repeat."""
    pairs = [(a[column.key], b[column.key]) for a, b in zip(first, second, strict=False) if column.key in a]
    return [a / b if column.more_is_better else b / a for a, b in pairs]


def spread(values: Sequence[float]) -> str:
    """``median (smallest to largest)``, or the one value there is."""
    if not values:
        return "-"
    middle = _digits(median(values))
    return middle if len(values) == 1 else f"{middle} ({_digits(min(values))} to {_digits(max(values))})"


def _against_best_peer(
    case: Case, cases: Sequence[Case], results: Mapping[str, Sequence[Measured]], column: Column
) -> str:
    peers = [peer.name for peer in cases if peer.peer and column.key in results[peer.name][0]]
    if case.peer or not peers or column.key not in results[case.name][0]:
        return ""
    best = (max if column.more_is_better else min)(
        peers, key=lambda peer: median(run[column.key] for run in results[peer])
    )
    return spread(ratios(results[case.name], results[best], column))


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _short(argument: str) -> str:
    path = Path(argument)
    return str(path.relative_to(REPOSITORY)) if path.is_absolute() and path.is_relative_to(REPOSITORY) else argument
