"""Ask a saved run: the same prompt with the adapter off and on, or with several runs' adapters by name.

    python -m adapter_exp.generate outputs/RUN --prompt "..."
    python -m adapter_exp.generate outputs/RUN outputs/OTHER --adapter base --adapter OTHER --prompt "..."

A fresh process: the base and the adapters are loaded from what the runs saved.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapter_exp.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from adapter_exp.config import Config
    from adapter_exp.data.rendering import Renderer
    from adapter_exp.evaluation.decoding import Decoding
    from adapter_exp.evaluation.generation import Generated
    from adapter_exp.models.base import Base

BASE = "base"


@dataclass(frozen=True)
class Reply:
    """One model's answer to one prompt."""

    prompt: str
    adapter: str
    answer: Generated


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 0 ok, 2 bad input."""
    options = _parser().parse_args(arguments)
    from adapter_exp.report.terminal import make_console, print_error, print_notes

    console = make_console()
    try:
        _check(options)
        runs = {run.name: SavedRun.read(run) for run in options.runs}
        trained_with = next(iter(runs.values())).config.task.system
        system = trained_with if options.system is None else options.system
        print_notes([f"system message: {system}" if system else "no system message"], console=console)
        wanted = _wanted(options.adapter, runs)
        for reply in answers(runs, wanted, options.prompt, system, _decoding(options), options.device):
            _print(console, reply)
    except UserError as error:
        print_error(error)
        return 2
    return 0


@dataclass(frozen=True)
class SavedRun:
    """A run's configuration and the folder of its adapter; None for a run of the base alone."""

    config: Config
    adapter: Path | None

    @classmethod
    def read(cls, run: Path) -> SavedRun:
        """Read what is needed to load the run's model again.

        Raises:
            UserError: if the folder holds no readable record, or the run ended before its adapter was saved.
        """
        from adapter_exp.config import parse_config
        from adapter_exp.tracking.record import load_record

        config = parse_config(load_record(run)["config"])
        if config.adapter.kind == "none":
            return cls(config, None)
        folder = Path(config.adapter.path).expanduser() if config.adapter.kind == "saved" else run / "adapter"
        if not folder.is_dir():
            raise UserError(f"{folder}: this run saved no adapter; choose one that ended well.")
        return cls(config, folder)


def answers(
    runs: Mapping[str, SavedRun],
    wanted: Sequence[str],
    prompts: Sequence[str],
    system: str,
    decoding: Decoding,
    device: str = "auto",
) -> Iterator[Reply]:
    """Answer every prompt with every wanted model, one adapter on the base at a time.

    Args:
        runs: by name; the base is the first one's, and an adapter that belongs to another is refused.
        wanted: names of runs, or ``base``.

    Raises:
        UserError: if a model or adapter cannot be loaded, or belongs to another base.
    """
    from adapter_exp.adapters import load
    from adapter_exp.models.base import load_base
    from adapter_exp.preparation import renderer_for

    first = next(iter(runs.values())).config
    _refuse_other_bases(runs, first)
    base = load_base(first.model, first.quantization, cache_dir=Path(first.cache_dir).expanduser(), device=device)
    renderer = renderer_for(first, base, system=system)
    for name in wanted:
        folder = None if name == BASE else runs[name].adapter
        if folder is None:
            yield from _replies(name, base, renderer, prompts, decoding)
            continue
        attached = load(base.model, folder, base_sha256=base.checkpoint_sha256, quantization=base.quantization)
        try:
            yield from _replies(name, base, renderer, prompts, decoding)
        finally:
            attached.detach()


def _refuse_other_bases(runs: Mapping[str, SavedRun], first: Config) -> None:
    for name, run in runs.items():
        theirs, ours = (f"{c.model.name} ({c.quantization.kind})" for c in (run.config, first))
        if theirs != ours:
            raise UserError(f"{name}: was run on {theirs}, the first run on {ours}; ask them apart.")


def _replies(name: str, base: Base, renderer: Renderer, prompts: Sequence[str], decoding: Decoding) -> Iterator[Reply]:
    from adapter_exp.evaluation.generation import generate

    for prompt in prompts:
        ids = renderer.prompt_ids(prompt)
        if len(ids) + decoding.max_new_tokens > renderer.max_length:
            raise UserError(
                f"--prompt: has {len(ids)} tokens; with --max-new-tokens {decoding.max_new_tokens} it exceeds the "
                f"limit of {renderer.max_length}."
            )
        [found] = generate(base.model, base.tokenizer, [ids], decoding, end_ids=renderer.end_ids, batch_size=1)
        yield Reply(prompt, name, found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m adapter_exp.generate", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run; several must share their base")
    add("--prompt", action="append", required=True, help="the user's message; may be given several times")
    add("--adapter", action="append", metavar="NAME", help="base or a run folder's name (default: all)")
    add("--system", help='system message (default: the one of the first run\'s task; "" for none)')
    add("--temperature", type=float, default=0.0, help="0 (default): greedy")
    add(
        "--top-p", "--top_p", type=float, default=1.0, help="sample from the likeliest tokens of this total probability"
    )
    add("--repetition-penalty", "--repetition_penalty", type=float, default=1.0, help="above 1: repeat less")
    add("--max-new-tokens", "--max_new_tokens", type=int, default=128, help="cap on each answer (default: 128)")
    add("--seed", type=int, default=0, help="draws the samples when temperature is above 0")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    return parser


def _check(options: Any) -> None:
    faults = []
    if not math.isfinite(options.temperature):
        faults.append(f"--temperature: {options.temperature} is not a finite number; use 0 (greedy) or more.")
    elif options.temperature < 0:
        faults.append(f"--temperature: {options.temperature} is below 0; use 0 (greedy) or more.")
    if not 0 < options.top_p <= 1:
        faults.append(f"--top-p: {options.top_p} is not above 0 and at most 1.")
    if not 0 < options.repetition_penalty < math.inf:
        faults.append(f"--repetition-penalty: {options.repetition_penalty} is not above 0; 1 is none.")
    if options.max_new_tokens < 1:
        faults.append(f"--max-new-tokens: {options.max_new_tokens} is below 1.")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", options.device):
        faults.append(f"--device: '{options.device}' is unknown; use auto, cpu, cuda or cuda:N.")
    faults += ["--prompt: is empty; give the user's message." for prompt in options.prompt if not prompt.strip()]
    names = [run.name for run in options.runs]
    faults += [f"{name}: two run folders have this name." for name in sorted({n for n in names if names.count(n) > 1})]
    if faults:
        raise UserError(*faults)


def _wanted(named: Sequence[str] | None, runs: Mapping[str, SavedRun]) -> list[str]:
    known = [BASE, *(name for name, run in runs.items() if run.adapter is not None)]
    for name in named or ():
        if name not in known:
            raise UserError(f"--adapter: '{name}' is unknown; use one of: {', '.join(known)}.")
    return list(dict.fromkeys(named or known))


def _decoding(options: Any) -> Decoding:
    from adapter_exp.evaluation.decoding import Decoding

    return Decoding(
        options.max_new_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        repetition_penalty=options.repetition_penalty,
        seed=options.seed,
    )


def _print(console: Console, reply: Reply) -> None:
    from rich.text import Text

    seconds = reply.answer.milliseconds / 1000
    console.print()
    console.print(Text.assemble((reply.adapter, "bold"), ("  " + reply.prompt, "dim")), soft_wrap=True)
    console.print(Text(reply.answer.text), soft_wrap=True)
    speed = reply.answer.new_tokens / max(seconds, 1e-9)
    console.print(Text(f"{reply.answer.new_tokens} tokens in {seconds:.1f} s, {speed:.1f} tokens/s", style="dim"))


if __name__ == "__main__":
    sys.exit(main())
