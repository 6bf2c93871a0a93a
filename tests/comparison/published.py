"""The published tables as imported records: TERRa item by item, Nerus as figures alone."""

from __future__ import annotations

from pathlib import Path

from adapter_exp.comparison.imported import ImportedTask, write_imported
from adapter_exp.evaluation.predictions import Prediction

SOURCE = "the published report"
ITEMS = 100
SHOWN = ("accuracy_generated", "macro_precision_generated", "macro_recall_generated", "macro_f1_generated")

NERUS_BASE = {"macro_f1": 0.3615, "macro_precision": 0.2983, "macro_recall": 0.524}
NERUS_MLP = {"macro_f1": 0.4726, "macro_precision": 0.3875, "macro_recall": 0.7062}
IMPOSSIBLE = {"macro_f1": 0.3615, "macro_precision": 0.2483, "macro_recall": 0.4564}

LORA = {"kind": "lora", "r": 4, "alpha": 8, "target_modules": ["q_proj", "v_proj"]}
MLP = {"kind": "mlp", "hidden_dim": 128, "layers": [0, 8, 16, 24]}


def terra_rows(right: int) -> list[Prediction]:
    """One true label everywhere; the first ``right`` items are answered with it."""
    rows = []
    for number in range(ITEMS):
        answer = "entailment" if number < right else "not_entailment"
        rows.append(
            Prediction(
                id=str(number),
                item_hash=f"{number:016x}",
                group=f"premise {number}",
                prompt_hash="",
                input="",
                target="entailment",
                response=None,
                prediction={"generated": answer},
                parsed=True,
                statistics={f"generated:entailment>{answer}": 1.0},
                logprobs=[],
                new_tokens=0,
                milliseconds=0.0,
            )
        )
    return rows


def write_published(folder: Path, *, base: dict[str, float] = NERUS_BASE) -> list[Path]:
    """The two adapters of the published table, beside one base."""
    made = []
    for name, adapter, right, figures in (("lora", LORA, 44, base), ("mlp", MLP, 39, NERUS_MLP)):
        terra = ImportedTask(
            role="general",
            primary="accuracy_generated",
            base=dict.fromkeys(SHOWN, 0.0),
            base_predictions=terra_rows(44),
            adapted_predictions=terra_rows(right),
        )
        nerus = ImportedTask(role="special", primary="macro_f1", base=base, adapted=figures)
        write_imported(
            folder / name,
            source=SOURCE,
            model="Llama 3.1 8B Instruct",
            adapter=adapter,
            tasks={"nerus": nerus, "terra": terra},
            sizes={"trainable_parameters": 1_703_936 if name == "lora" else 4_211_200},
        )
        made.append(folder / name)
    return made
