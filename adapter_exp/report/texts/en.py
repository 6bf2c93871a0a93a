"""The report in English."""

from __future__ import annotations

from adapter_exp.report.texts import en_reasons

NOUNS = {
    "run": ("run", "runs"),
    "configuration": ("configuration", "configurations"),
    "item": ("item", "items"),
    "number": ("number", "numbers"),
}

SENTENCES = en_reasons.SENTENCES | {
    "title": "Comparison of adapters",
    "list_end": "{first} and {last}",
    "more": "{number} more",
    "contents": "Contents",
    "unit.s": "s",
    "unit.min": "min",
    "unit.h": "h",
    "unit.b": "B",
    "unit.kib": "KiB",
    "unit.mib": "MiB",
    "unit.gib": "GiB",
    "unit.tokens_per_s": "{number} tokens/s",
    "group.title": "Group {number}: {model}",
    "intro.compared": "compared",
    "intro.base_only": "base only: {number}",
    "intro.refused": "refused: {number}",
    "intro.method": (
        "Differences are paired item by item. Brackets hold {confidence} bootstrap intervals ({resamples} "
        "resamples of whole documents). Findings are told after Holm's correction at {alpha}. Findings hold for "
        "the seeds that were run. A tie is a difference that was not shown, never a proof of equality."
    ),
    "intro.groups": "The runs cannot all be compared with each other. They fall into {number} groups:",
    "intro.split": "group {number}: {reason}",
    "intro.nothing": "No run could be compared.",
    # 1. what was compared
    "setup.title": "What was compared",
    "setup.model": "base model",
    "setup.imported": "figures imported from",
    "setup.checkpoint": "checkpoint (SHA-256)",
    "setup.quantization": "quantisation",
    "setup.configurations": "configurations",
    "setup.runs": "runs",
    "setup.runs_seeds": "{runs}; seeds {seeds}",
    "setup.base_runs": "runs of the base only",
    "setup.varying": "what varies",
    "setup.learning_rates": "learning rates tried",
    "setup.rates_of_kind": "{kind}: {values} (values: {number})",
    "setup.devices": "device",
    "setup.compute_dtypes": "number format",
    "setup.versions": "versions",
    "setup.commits": "commit",
    "setup.data": "Data",
    "setup.warnings": "Worth knowing before a difference is believed:",
    "budget.equal": "All configurations were trained on the same budget.",
    "budget.title": "Training budget",
    "budget.examples": "examples",
    "budget.epochs": "epochs",
    "budget.steps": "steps",
    "budget.tokens": "tokens",
    "budget.learning_rate": "learning rate",
    "role.special": "special",
    "role.general": "general",
    "split.train": "train",
    "split.validation": "validation",
    "split.test": "test",
    "quantization.none": "none",
    "column.task": "task",
    "column.split": "split",
    "column.items": "items",
    "column.documents": "documents",
    "column.truncated": "truncated",
    "column.tokens": "tokens",
    "column.fingerprint": "fingerprint",
    "column.configuration": "configuration",
    "column.metric_and_configuration": "metric, configuration",
    "column.metric_and_pair": "metric, pair",
    "column.score": "score",
    "column.change": "change",
    "column.difference": "difference",
    "column.p_holm": "p (Holm)",
    "column.finding": "finding",
    "column.place": "place",
    "column.seeds": "seeds",
    "column.by_seed": "score by seed",
    "column.seed_sd": "sd",
    "column.folder": "folder",
    "column.reason": "reason",
    "column.gate": "gate",
    "column.withholds": "withholds",
    # 2. adapters
    "adapters.title": "Adapters",
    "adapters.none": "Only base models were scored: there is no adapter to show.",
    "adapters.parameters": "trainable parameters",
    "adapters.share": "share of base",
    "adapters.r": "r",
    "adapters.alpha": "alpha",
    "adapters.hidden": "hidden size",
    "adapters.layers": "layers",
    "adapters.modules": "target modules",
    "adapters.dropout": "dropout",
    "adapters.quantization": "base quantised",
    "adapters.bytes": "saved",
    # 3. results
    "results.title": "Results by task",
    "results.legend": (
        "▲ higher and ▼ lower than the base (in tables of pairs: the first than the second) after Holm's "
        "correction; no mark: a tie, or not tested; ?: withheld by a gate, see section 7. The relative change "
        "stands in parentheses, a dash where the base scored 0."
    ),
    "results.task": "{task} ({role} task)",
    "results.items": "Scored on {items} of the test split; documents that were resampled: {documents}.",
    "results.imported": "Figures without predictions: no interval and no test can be had.",
    "results.no_metrics": "There is no metric to show.",
    "results.primary": "Primary metric: {metric}",
    "results.others": "Other metrics",
    "results.missing": "Missing or not finite, so without a row: {metric}, for {names} ({number} in all).",
    "results.every_metric": "every metric",
    "results.compact_note": (
        "Behind the score: change against the base. Intervals, tests and p values are in runs.csv, which --output "
        "FOLDER writes."
    ),
    "row.base": "base",
    "row.base_quantized": "base ({quantization})",
    "row.trivial": "best trivial answer",
    "verdict.higher": "higher",
    "verdict.lower": "lower",
    "verdict.tie": "tie",
    "verdict.withheld": "withheld",
    "verdict.not_measured": "not tested",
    "pairs.title": "Adapters against each other",
    "pairs.names": "{first} against {second}",
    "pairs.note": (
        "The highest against all others, and the best of each kind; every pair is in pairs.csv, which --output FOLDER "
        "writes."
    ),
    # 4. ranking
    "ranking.title": "Ranking in groups",
    "ranking.legend": (
        "Configurations in one place cannot be told apart from the first of it. Within a place the order means nothing."
    ),
    "ranking.task": "{task}, {metric}",
    "ranking.places": "Places",
    "ranking.alone": "One configuration: there is nothing to rank.",
    "ranking.no_places": "No places: no test could be made, or gates withhold the findings.",
    "ranking.unranked": "Without a place (no test, or withheld by a gate): {names}.",
    "ranking.smallest_base": (
        "Smallest change from the base that this test would have found with a probability of 80%: {difference}."
    ),
    "ranking.smallest_pair": "Smallest difference between two configurations, likewise: {difference}.",
    "seeds.one": "One seed for each configuration: the spread between seeds is unknown.",
    "seeds.title": "Spread between seeds, apart from the effect of the adapter",
    "seeds.note": (
        "sd: standard deviation over seeds. An sd above the change means that another seed could have reversed its "
        "sign."
    ),
    # 5. forgetting
    "forgetting.title": "Gain and forgetting",
    "forgetting.none": "Not measured: this needs a special and a general task, both scored.",
    "forgetting.legend": (
        "Gain and forgetting are paired changes of the primary metrics; below 0 on the general task is forgotten. "
        "Balance is the published score: the sum of the relative changes of macro F1 on both tasks; a dash where a "
        "base scored 0, or there is no macro F1. The absolute sum also exists where a base scored 0."
    ),
    "forgetting.table": "Gain on {special}, forgetting on {general}",
    "forgetting.gain": "gain",
    "forgetting.forgetting": "general task",
    "forgetting.published": "balance",
    "forgetting.absolute": "absolute sum",
    # 6. cost
    "cost.title": "Cost",
    "cost.none": "The records say nothing about cost.",
    "cost.table": "Cost of one run (median over seeds)",
    "cost.parameters": "trainable parameters",
    "cost.training": "training",
    "cost.wall": "whole run",
    "cost.speed": "speed",
    "cost.rss": "peak memory",
    "cost.device": "peak GPU memory",
    "cost.saved": "saved",
    "cost.note": "Runs that shared a loaded base or kept scores took less time than they would have taken alone.",
    "front.title": "Pareto front over gain, forgetting and trainable parameters",
    "front.share": "on the front",
    "front.note": (
        "Share of the resamples in which neither another configuration nor the base (no change, no parameters) is at "
        "least as good in gain, forgetting and trainable parameters and better in one. Cost is trainable parameters "
        "alone, not time or memory. ?: gates withhold good news on one of the tasks, so this is a number and no claim."
    ),
    # 7. gates
    "gates.title": "Gates",
    "gates.none": "No gate withholds a finding.",
    "gates.withheld": "Findings that gates withhold (the numbers stay):",
    "gates.warnings": "Failed, but withholding nothing:",
    "gates.no_refused": "No run was refused.",
    "gates.refused": "Refused runs: {number}",
    "gates.refused_title": "Refused runs",
    "gates.all": "all",
    "gates.seeds": "{name} (seed: {seeds})",
    "gates.likewise": "{reason} (other seeds likewise: {number})",
    "withholds.nothing": "nothing",
    "withholds.all": "every finding",
    "withholds.good": "all but “lower”",
    # 8. conclusions
    "conclusions.title": "Conclusions",
    "conclusions.base_only": "Only base models were scored: there is nothing to conclude about adapters.",
    "conclusions.said": "What the numbers allow to say",
    "conclusions.next": "What to run next",
    "said.alone": (
        "A sweep of one ({configurations}, {runs}): it can be compared with the base, and there is nothing to rank."
    ),
    "said.tried": (
        "Tried: {configurations}, {runs}. A leader below is the best of these on the test items, so its score "
        "there is biased upwards by the choice; choosing on validation and reporting on test is not."
    ),
    "said.against_base": "{task}, {metric}, against the base: {parts}.",
    "said.part": "{finding}: {names}",
    "said.part_tie": "a tie (no difference shown): {names}",
    "said.no_loss_shown": (
        "“No difference shown” on {task} does not mean that nothing was forgotten: a change below {smallest} would "
        "often go unseen."
    ),
    "said.role_special": "the special task {task}",
    "said.role_general": "the general task {task}",
    "said.best": (
        "Best on {role}: {name}, {metric} {score}, change {change}. It is shown to be above every other ranked "
        "configuration and above the base."
    ),
    "said.best_not_base": (
        "Highest on {role}: {name}, {metric} {score}, change {change}. It is shown to be above every other ranked "
        "configuration, but not above the base."
    ),
    "said.only_ranked": (
        "On {role} only {name} has a place: {metric} {score}, change {change}, shown to be above the base. It was "
        "compared with no other."
    ),
    "said.only_ranked_not_base": (
        "On {role} only {name} has a place: {metric} {score}, change {change}, not shown to be above the base."
    ),
    "said.tied": (
        "No single best on {role}: {names} share the first place. The highest score is that of {name} ({metric} "
        "{score}), and the test does not tell the others apart from it."
    ),
    "said.unseen": "A difference below {smallest} would often go unseen.",
    "said.none_above_base": "None of them is shown to be above the base.",
    "said.untested": "On {role} nothing can be tested. Highest figure: {names}, {metric} {score}, change {change}.",
    "said.withheld": "Best on {role}: no claim.",
    "said.left_out": "Left out of the ranking on {role} by gates ({gates}): {names}.",
    "said.left_out_untested": "Without a place on {role}, because no test could be made: {names}.",
    "said.same_as_base": "{name} against the base: a tie. Of {numbers}, all are equal to the base's.",
    "said.tie_withheld": "Gates withhold this finding of a tie: {gates}.",
    "said.balance": "Highest balance score ({special} and {general}): {names}, {score}.",
    "said.balance_absolute": "Highest sum of absolute changes ({special} and {general}): {names}, {score}.",
    "said.balance_untested": "It has no interval, so the order of balance scores is not tested.",
    "said.balance_near": (
        "It is not shown that these are below it (one comparison each, without a correction): {names}."
    ),
    "said.balance_zero": "Its interval holds 0.",
    "said.number_only": "Gates withhold findings on {tasks} ({gates}), so this is a number and no claim.",
    "said.validation": "Chosen on validation ({task}, {metric} {validation}): {names}.",
    "said.validation_test": "Score on test, free of the choice: {test}.",
    "said.validation_untested": "Without a score on test: {names}.",
    "said.no_validation": "Not every run of {task} has a validation score, so no choice on validation can be shown.",
    "next.none": "These tests leave nothing open that another run of this kind would settle.",
    "next.all_tasks": "all tasks",
    "next.repair": "{task}: first repair what the gates found ({gates}); until then no further run helps there.",
    "next.failing": "{task}: look into {names} before running more like it (gates: {gates}).",
    "next.edge_high": (
        "{kind}: the highest score is at the upper edge of {axis} (tried: {tried}). Try {following} and beyond."
    ),
    "next.edge_low": "{kind}: the highest score is at the lower edge of {axis} ({value}; tried: {tried}). Try less.",
    "next.flat_axis": (
        "{kind}: no difference found between the values of {axis} ({tried}) where nothing else differs; one smaller "
        "than {smallest} could have gone unnoticed. Vary something else."
    ),
    "next.single_setting": (
        "Tried in one setting only: {names}. Another size or learning rate may change the order; sweep them before "
        "choosing a kind."
    ),
    "next.items_base": (
        "{task}: to tell {name} from the base, about {needed} test items would be needed (now {items}), if the "
        "change seen ({difference}) is the true one."
    ),
    "next.items_pair": (
        "{task}: to tell {first} from {second}, about {needed} test items would be needed (now {items}), if the "
        "difference seen ({difference}) is the true one."
    ),
    "next.items_now": "{items} in {documents} documents; with as many items per document",
    "next.items_base_too_many": (
        "{task}: if {name} differs from the base at all ({difference}), it is too little for this test set: more than "
        "{times} times as many items would be needed."
    ),
    "next.items_pair_too_many": (
        "{task}: if {first} and {second} differ at all ({difference}), it is too little for this test set: more than "
        "{times} times as many items would be needed."
    ),
    "next.few_seeds": "Run at least {wanted} seeds of {names}: fewer say little about the spread.",
    "next.seed_spread": (
        "{task}, {metric}: seeds spread more than the change of {names}. More seeds come before any claim there."
    ),
    "next.sweep": "Compare it with something: another kind of adapter, or another size.",
    "next.refused": "Look at the refused runs ({number}): finish or repeat them.",
    # plots
    "plot.change.title": "{task}: change of {metric} against the base",
    "plot.change.x": "change of {metric}, with interval",
    "plot.change.band": "smaller changes would often go unseen",
    "plot.change.base": "no change",
    "plot.forgetting.title": "Gain on {special} against the change on {general}",
    "plot.forgetting.x": "change on {general} ({metric}); left of 0: forgotten",
    "plot.forgetting.y": "gain on {special} ({metric})",
    "plot.hollow": "hollow: withheld by a gate",
    "plot.cost.title": "{task}: {metric} against cost",
    "plot.cost.parameters": "trainable parameters",
    "plot.cost.training": "training time, s",
    "plot.cost.memory": "peak memory, GiB",
    "plot.axis.title": "{task}: {metric} by {axis}",
    "plot.axis.band": "band and small dots: spread over seeds",
    "plot.loss.title": "Training loss",
    "plot.loss.x": "optimizer step",
    "plot.loss.y": "loss, nats per supervised token",
    "plot.loss.mean": "running mean, averaged over seeds",
}
