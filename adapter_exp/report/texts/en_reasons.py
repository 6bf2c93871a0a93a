"""Reasons and gates in English. A placeholder may say how its value is shown: see ``texts.ReasonFormatter``."""

SENTENCES = {
    # words of the records
    "word.base": "base",
    "word.adapted": "adapted",
    "word.special": "special",
    "word.general": "general",
    "word.unknown": "unknown",
    "word.queued": "queued",
    "word.running": "running",
    "word.failed": "failed",
    "word.oom": "out of memory",
    "word.cancelled": "cancelled",
    # why a folder takes no part
    "reason.no_folder": "is not a folder; name the folder of a run or of a sweep",
    "reason.no_runs": "holds no run",
    "reason.not_finished": "the run did not end well: {status} ({error})",
    "reason.record_invalid": "record.json does not hold what it must: {text}",
    "reason.no_record": "has no record.json (job {state})",
    "reason.record_damaged": "record.json is cut short or damaged ({detail})",
    "reason.record_schema": "record.json is of schema {found}; this version reads {wanted} only",
    "reason.nothing_scored": "the record holds no scores",
    "reason.predictions_missing": "{file} is missing: it cannot be compared item by item",
    "reason.predictions_damaged": "{file} is damaged ({detail}); evaluate again",
    "reason.duplicate_items": "{file}: an item stands in it twice; evaluate again",
    "reason.items_differ": (
        "{task}: base and adapted were not scored on the same items ({count} differ, the first is {item})"
    ),
    "reason.task_unknown": "{task}: this version does not know the task or its settings",
    "reason.metrics_differ": (
        "{task} ({model}): {metric} is {record:score} in the record, but {predictions:score} by the predictions"
    ),
    "reason.same_folder": "named twice; read once",
    "reason.same_run": "same configuration, seed ({seed}) and scores as {folder}; only that one is counted",
    "reason.same_run_other_scores": (
        "same configuration and seed ({seed}) as {folder}, but other scores; only that one is counted"
    ),
    # why runs fall into groups
    "reason.other_source": "figures imported from {source} are not of the same items",
    "reason.other_checkpoint": "another base checkpoint: {other} ({other_checkpoint}), not {model} ({checkpoint})",
    "reason.other_tasks": "scored on {other}, not on {tasks}",
    "reason.other_role": "{task} has another role ({other}, not {role})",
    "reason.other_items": "{task}: other items ({other}, not {items}; in common: {common})",
    "reason.other_settings": "{task}: {key} is {other}, not {value}",
    "reason.other_prompts": "{task}: the prompts differ as token ids (items: {changed} of {items})",
    "reason.other_documents": "{task}: items belong to other documents",
    # warnings
    "reason.budget_differs": "training budgets differ in {key}: {values}",
    "reason.learning_rate_effort": "kinds were not tried with the same learning rates: {rates}",
    "reason.versions_differ": "runs used different versions of {library}: {values}",
    "reason.commits_differ": "runs used different states of the program: {values:hash}",
    "reason.devices_differ": "runs used different devices: {values}",
    "reason.dtypes_differ": "runs used different number formats: {values}",
    "reason.one_seed": "one seed only, so the spread between seeds is unknown: {configurations}",
    "reason.seeds_differ": "configurations do not have the same seeds: {seeds}",
    "reason.task_missing": "{task}: {configuration} was not scored there with every seed, so it is left out",
    "reason.base_differs": (
        "{task}: the base ({quantization}) answered differently in {runs} of {total} runs; averaged"
    ),
    "reason.few_documents": "{task}: documents are few for an interval ({documents}); take it as too narrow",
    "reason.coarse_p": (
        "{task}: too many pairs ({comparisons}) for {flips} permutations to tell any apart; compare fewer runs"
    ),
    "reason.base_missing": "{task}: {configuration} has no scores of the base (seeds {seeds}), so it has no rows there",
    "reason.metric_unknown": "{task}: {metric} is not one of the task's metrics, so it has no interval and no test",
    "reason.metric_missing": "{task}: {configuration} lacks {metric} (seeds {seeds}), so it has no row there",
    "reason.metric_not_finite": (
        "{task}: {configuration} has no finite {metric} (seeds {seeds}), so it has no row there"
    ),
    "reason.base_only": "only base models were scored; there is nothing to compare them with",
    # gates
    "gate.one_label": "one label",
    "gate.majority": "trivial answer",
    "gate.overlap": "overlap",
    "gate.truncated_targets": "truncated targets",
    "gate.all_masked": "no supervised token",
    "gate.eos_unsupervised": "no end token",
    "gate.parse_failures": "unreadable answers",
    "gate.base_changed": "base changed",
    "gate.loss_exploding": "exploding loss",
    "gate.loss_not_falling": "loss does not fall",
    "gate.adapter_without_effect": "no effect",
    "gate.bytes_mismatch": "saved bytes",
    "gate.impossible_f1": "impossible F1",
    "gate.fits_one_label": "fits one label",
    "gate.equals_base": "equals the base",
    "reason.one_label": "distinct targets among {items} evaluation items: {distinct}",
    "reason.majority": "{metric} is {score:score}, the best trivial answer reaches {trivial:score}",
    "reason.overlap": (
        "evaluation items that are training items: {same} of {items}; groups (documents, premises) also in "
        "training: {shared_groups} of {groups}"
    ),
    "reason.truncated_targets": (
        "training rows that lost the end of their answer: {truncated} of {rows} (limit {limit:percent})"
    ),
    "reason.all_masked": "training rows without a supervised token: {unsupervised} of {rows}",
    "reason.eos_unsupervised": (
        "training rows that supervise an end token: {with_end}; not truncated: {whole} of {rows}"
    ),
    "reason.parse_failures": "answers that could not be read: {unparsed} of {items} (limit {limit:percent})",
    "reason.base_changed": "base weights {before:hash} before training, {after:hash} after",
    "reason.loss_not_falling": "loss went from {start:score} to {end:score} (means of the first and last fifth)",
    "reason.loss_exploding": (
        "loss went from {start:score} to {end:score} (means of the first and last fifth; limit: {limit} times the "
        "start)"
    ),
    "reason.loss_not_finite": "logged loss {number} is no number: {loss}",
    "reason.adapter_without_effect": "answers that differ from the base model's: {changed} of {items}",
    "reason.bytes_mismatch": (
        "saved tensors take {tensor_bytes:whole} bytes, {parameters:whole} parameters of {bytes_per_parameter} "
        "bytes take {expected:whole}"
    ),
    "reason.impossible_f1": (
        "{metric} ({of}) is {f1:score}, but precision {precision:score} and recall {recall:score} allow at most "
        "{limit:score}: some of these figures are not of one evaluation"
    ),
    "reason.fits_one_label": (
        "macro precision 0.5, recall half the accuracy and F1 accuracy / (1 + accuracy) fit an evaluation set with "
        "one true label (accuracy: {accuracy:score}): any constant answer is then all right or all wrong"
    ),
    "reason.equals_base": "figures equal to the base's: {equal} of {figures}",
}
