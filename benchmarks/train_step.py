"""Examples per second of training on rows of the entity task, beside peft with Trainer and TRL's SFTTrainer.

    python benchmarks/train_step.py                            # LoRA on all layers, the bundled task's instruction
    python benchmarks/train_step.py --instruction-tokens 150   # a longer instruction
    python benchmarks/train_step.py --last4                    # LoRA on the last 4 layers
    python benchmarks/train_step.py --quick                    # does it work? tiny model, no figures

All train LoRA r=16 on the seven projections of SmolLM2-135M in nf4, batch 8, on the same rows. An epoch of a peer costs
the same each time, so peers run one; ours can keep states between epochs, so it runs three. Computing these states
counts, in the first epoch, and so does predicting the peak of memory.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from measure import Case, Column, Measured, arguments, cache_folder, interleaved, parsed, report
from ours import FREEZING, PLAIN, converted_cache, records, run_ours, seconds_of
from peer import run_peer, write_texts

BATCH_SIZE = 8
EPOCHS = 3
# Training only: nothing is scored, and neither checkpoint nor validation loss falls between two steps.
TRAINING = (
    f"trainer.batch_size={BATCH_SIZE}",
    "trainer.gradient_accumulation_steps=1",
    "trainer.save_steps=100000",
    "trainer.eval_steps=100000",
    "trainer.load_best=false",
    "task.max_validation=1",
    "eval.special=[]",
    "eval.general=[]",
    "eval.validation=false",
    "tracking=none",
)
INSTRUCTION = (
    "Ты размечаешь новости. Прочитай предложение и выпиши все имена людей, названия мест и организаций в том порядке, "
    "в каком они стоят в тексте. Каждое имя пиши в квадратных скобках точно так, как оно написано в предложении, в том "
    "же падеже и с теми же буквами, а сразу за ним в круглых скобках его вид: PER для людей, LOC для городов, стран, "
    "рек и улиц, ORG для компаний, ведомств, партий и команд. Между именами ставь один пробел. Не добавляй пояснений, "
    "не переводи и не повторяй само предложение. Если в предложении нет ни одного имени, ответь одним словом: нет"
)
COLUMNS = (
    Column("examples_per_s", "examples/s", more_is_better=True, ratio=True),
    Column("first_epoch_per_s", "first epoch", more_is_better=True),
    Column("later_epochs_per_s", "later epochs", more_is_better=True),
    Column("step_s", "s per step"),
    Column("wall_s", "whole process, s"),
    Column("peak_rss_bytes", "peak memory, GiB", scale=2**-30),
)


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--rows", type=int, default=32, help="training rows, a multiple of 8 (default 32)")
    parser.add_argument("--last4", action="store_true", help="LoRA on the last 4 layers instead of all")
    parser.add_argument("--instruction-tokens", type=int, default=0, help="shared tokens of all rows; 0: as bundled")
    parser.add_argument("--strong", action="store_true", help="peft also without activation checkpointing")
    parser.add_argument("--no-plain", action="store_true", help="leave out our own plain path")
    options = parsed(parser)
    rows = 16 if options.quick else options.rows
    layers = ("last:2" if options.quick else "last:4") if options.last4 else "all"
    root, cache = Path(tempfile.mkdtemp(prefix="bench-train-step-")), cache_folder()
    overrides = [f"task.max_train={rows}", f"adapter.layers={layers}", *TRAINING, *options.overrides]
    try:
        facts = write_texts(root / "texts", overrides, cache=cache)
        if options.instruction_tokens:
            text = instruction(options.instruction_tokens, facts["nerus"]["train"]["prefix_tokens"], facts["model"])
            overrides.append(f"task.system='{text}'")
            facts = write_texts(root / "texts", overrides, cache=cache)
        cases = training_cases(
            root,
            overrides,
            peers_for(layers, strong=options.strong),
            model=facts["model"],
            cache=cache,
            python=options.peers_python,
            plain=not options.no_plain,
        )
        results, machines = interleaved(cases, options.repeats)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    name = "_".join(
        [
            "train_step",
            *["last4"] * options.last4,
            *[str(options.instruction_tokens)] * bool(options.instruction_tokens),
        ]
    )
    told = {"rows": facts["nerus"]["train"], "layers": layers, "batch": BATCH_SIZE, "overrides": overrides}
    goal = "8 times" if options.last4 else "3 times" if options.instruction_tokens else "2 times"
    report(
        name + "-quick" * options.quick,
        cases,
        results,
        COLUMNS,
        machines=machines,
        settings=told,
        goal=f"{goal} the examples/s of the better peer",
    )


def instruction(tokens: int, bundled: int, model: str) -> str:
    """The first words of ``INSTRUCTION`` that make all rows begin with about ``tokens`` tokens."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
    bundled_text = "Выпиши имена: [имя](PER|LOC|ORG) или нет"
    around = bundled - len(tokenizer.encode(bundled_text).ids)  # the template's own
    words = INSTRUCTION.split(" ")
    count = next(
        (n for n in range(1, len(words)) if around + len(tokenizer.encode(" ".join(words[:n])).ids) >= tokens),
        len(words),
    )
    return " ".join(words[:count])


def training_cases(
    root: Path,
    overrides: Sequence[str],
    peers: Mapping[str, Sequence[str]],
    *,
    model: str,
    cache: Path,
    python: Path,
    plain: bool,
) -> list[Case]:
    """Ours and the peers on the rows in ``root / "texts"``, each measured as ``rates`` tells.

    Args:
        peers: by name a script of ``peers/`` and its options.
        model: folder of the model.
        plain: also ours with every saving off.
    """
    train = root / "texts" / "nerus.train.jsonl"
    rows = len(train.read_text(encoding="utf-8").splitlines())

    def ours(name: str, *more: str) -> Case:
        def run(repeat: int) -> Measured:
            folder = root / f"{'plain' if more else 'ours'}-{repeat}"
            fresh = converted_cache(folder / "cache", cache)
            measured, trainings = run_ours([*overrides, f"trainer.epochs={EPOCHS}", *more], folder, cache=fresh)
            record = records(folder)[0]
            frozen_s = seconds_of(record, FREEZING)
            device_bytes = record["resources"]["peak_device_bytes"]
            if device_bytes is not None:
                measured["peak_device_bytes"] = device_bytes
            # Before the clock starts: frozen states, and the passes that predict the peak of memory.
            before_s = frozen_s + record["resources"]["planning_s"]
            ends_s = [before_s + end_s for end_s in trainings[0]]
            return {**measured, "frozen_s": frozen_s, **rates(ends_s, rows=rows, epochs=EPOCHS)}

        return Case(name, run)

    def peer(name: str, script: str, *more: str) -> Case:
        def run(repeat: int) -> Measured:
            folder = root / f"{script}{''.join(more)}-{repeat}"
            measured, found = run_peer(script, folder, "--train", train, *more, model=model, python=python)
            return {**measured, **rates(found["step_ends_s"], rows=rows, epochs=1)}

        return Case(name, run, peer=True)

    cases = [ours("adapter_exp"), *(peer(name, *command) for name, command in peers.items())]
    return [*cases, ours("adapter_exp, every saving off", *PLAIN)] if plain else cases


def peers_for(layers: str, *, strong: bool = False, batch_size: int = BATCH_SIZE) -> dict[str, list[str]]:
    """The scripts that training is compared with; ``strong``: one more, without activation checkpointing."""
    common = ["--layers", layers, "--batch-size", str(batch_size)]
    peers = {"peft + Trainer": ["peft_trainer", *common], "TRL SFTTrainer": ["trl_sft", *common]}
    if strong:
        peers["peft + Trainer, no checkpointing"] = ["peft_trainer", *common, "--no-checkpointing"]
    return peers


def repeated_text(times: int) -> str:
    """The override that makes rows longer: each text several times."""
    return f"task.prompt='{' '.join(['{text}'] * times)}'"


def rates(step_ends_s: Sequence[float], *, rows: int, epochs: int) -> Measured:
    """Examples per second of a training, of its first epoch and of the later ones, from the ends of its steps."""
    per_epoch = len(step_ends_s) // epochs
    first_s, all_s = step_ends_s[per_epoch - 1], step_ends_s[-1]
    found = {
        "examples_per_s": rows * epochs / all_s,
        "first_epoch_per_s": rows / first_s,
        "step_s": all_s / len(step_ends_s),
        "train_s": all_s,
    }
    if epochs > 1:
        found["later_epochs_per_s"] = rows * (epochs - 1) / (all_s - first_s)
    return found


if __name__ == "__main__":
    main()
