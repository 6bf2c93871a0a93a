"""What a comparison holds, as plain values: every table, plot and sentence is made from these numbers and no others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from adapter_exp.evaluation.predictions import Prediction
from adapter_exp.tracking.record import RecordData

Verdict = Literal["higher", "lower", "tie", "withheld", "not_measured"]
"""What a test shows; a tie is a difference that was not shown, never a proof of equality."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; the ends are None where no interval can be had."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Reason:
    """Why something is refused, split, warned of or withheld, ready for any language.

    Attributes:
        code: names the sentence in ``report.texts``.
        values: what the sentence shows. ``text`` is the same in English; where a catalog has no sentence for ``code``,
            it stands in.
    """

    code: str
    values: Mapping[str, Any] = field(default_factory=dict)


def reason(code: str, text: str, **values: Any) -> Reason:
    """A reason with its English ``text`` among the values."""
    return Reason(code, values | {"text": text})


@dataclass(frozen=True)
class Run:
    """One run as read from its folder.

    Attributes:
        predictions: by (task, ``base`` or ``adapted``), in the file's order; a task of an imported record has none.
        imported: whether the record holds figures from elsewhere, without predictions for some of its tasks.
    """

    folder: Path
    record: RecordData
    predictions: Mapping[tuple[str, str], tuple[Prediction, ...]]
    imported: bool = False


@dataclass(frozen=True)
class Refused:
    """A run or folder that takes no part, and why."""

    folder: Path
    reason: Reason


@dataclass(frozen=True)
class Configuration:
    """Runs that differ in nothing but the seed.

    Attributes:
        name: short and unique in its group, made of the kind and of what varies: ``lora r=16``.
        kind: the adapter's kind; a base model alone (``none``) is no configuration.
        quantization: of its base: ``nf4``, ``int8`` or ``none``.
        axes: the configuration keys that vary within the group, dotted, and this configuration's values.
        runs: one for each seed, in the order of the seeds.
    """

    name: str
    kind: str
    quantization: str
    axes: Mapping[str, Any]
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in order."""
        return tuple(int(run.record["seed"]) for run in self.runs)


@dataclass(frozen=True)
class MetricRow:
    """One configuration on one metric, averaged over its seeds.

    Attributes:
        base: the base model at the configuration's own quantisation, on the same items.
        change: adapted minus base, paired by item.
        relative: ``change`` as a share of the base; None when the base scored 0.
        p, p_holm: of the paired test against the base, raw and after Holm over the configurations of the group.
        test: ``mcnemar`` or ``sign_flip``; None where there is no test.
        verdict: after Holm and after the gates.
        by_seed: the metric of each seed's run, in the order of ``Configuration.seeds``. ``adapted`` is the metric of
            the items' averages over seeds; for a metric that is no plain mean it is near the mean of these, not equal.
        seed_sd: standard deviation of ``by_seed`` (n - 1); None for one seed.
        finding: what the test shows before the gates; ``verdict`` is the same, or ``withheld``. ``higher`` and
            ``lower`` need ``p_holm`` below alpha and an interval of the change without 0, so the two never disagree.
        standard_error: of the change, over the resamples.
        items_needed: items with which the first step of the corrected test would find a true change as large as the
            one observed, with a probability of 80 %; None without a test or a change.
    """

    configuration: str
    base: Estimate | None
    adapted: Estimate
    change: Estimate | None
    relative: Estimate | None
    p: float | None
    p_holm: float | None
    test: str | None
    verdict: Verdict
    by_seed: tuple[float, ...]
    seed_sd: float | None
    finding: Verdict = "not_measured"
    standard_error: float | None = None
    items_needed: int | None = None


@dataclass(frozen=True)
class PairRow:
    """Two configurations on one metric: ``first`` minus ``second``, paired by item.

    Attributes:
        relative: the difference as a share of ``second``'s score; None when that is 0.
        p_holm: after Holm over all pairs of the group on this metric.
        verdict: ``higher`` when ``first`` is.
        finding, standard_error, items_needed: as in ``MetricRow``, for the difference. A gate that withholds what is
            found of either configuration withholds it of the pair.
    """

    first: str
    second: str
    difference: Estimate
    relative: Estimate | None
    p: float | None
    p_holm: float | None
    test: str | None
    verdict: Verdict
    finding: Verdict = "not_measured"
    standard_error: float | None = None
    items_needed: int | None = None


@dataclass(frozen=True)
class MetricComparison:
    """One metric of one task over all configurations.

    Attributes:
        base: the base model's score by quantisation.
        trivial: score of the best answer that needs no model, where the task has one.
        rows: in the order of ``Group.configurations``; a configuration without the metric has no row.
        pairs: every pair of configurations once, for the primary metric of a task as for the others.
        places: names of configurations that share a place, best first, highest score first within a place: each cannot
            be told apart from the first of its place. So a configuration may stand in a place above one that scored
            higher: when its own interval is wider. A higher score is taken for a better one.
        smallest_difference: the change from the base that the first step of the corrected test finds with a
            probability of 80 %; None without intervals. From the median of the standard errors above 0.
        smallest_pair_difference: the same between two configurations.
        unranked: configurations without a place: no test could be made, or a gate withholds that they are better.
    """

    name: str
    base: Mapping[str, Estimate]
    trivial: float | None
    rows: tuple[MetricRow, ...]
    pairs: tuple[PairRow, ...]
    places: tuple[tuple[str, ...], ...]
    smallest_difference: float | None
    smallest_pair_difference: float | None
    unranked: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskComparison:
    """One task over all configurations; ``metrics`` begins with the primary one.

    Attributes:
        role: ``special`` or ``general``.
        items, documents: evaluated items, and the groups (documents, premises) that were resampled; None for figures
            that were imported without predictions.
    """

    name: str
    role: str
    primary: str
    items: int | None
    documents: int | None
    metrics: tuple[MetricComparison, ...]


@dataclass(frozen=True)
class BalanceRow:
    """Gain against forgetting of one configuration, on the primary metric of the special and the general task.

    Attributes:
        gain, forgetting: paired changes on the special and on the general task (below 0: forgotten).
        published: sum of the relative changes of macro F1 (where the task has none: of the primary metric) on both
            tasks, the balance score of the published report; None when a base scored 0.
        absolute: sum of the absolute changes of the same metrics.
        on_front: share of the resamples in which neither another configuration nor the base (no change, no parameters)
            is at least as good in gain, forgetting and trainable parameters and better in one; None without
            predictions. Gates play no part.
        published_behind: ``published`` minus that of the leader, the configuration with the highest ``published`` on
            these two tasks, over the same resamples; None for the leader itself, and where either has none. An
            interval that holds 0 does not show the order. It is that of one comparison, without a correction.
        absolute_behind: the same of ``absolute``, whose leader may be another.
    """

    configuration: str
    special: str
    general: str
    gain: Estimate
    forgetting: Estimate
    published: Estimate | None
    absolute: Estimate | None
    on_front: float | None
    published_behind: Estimate | None = None
    absolute_behind: Estimate | None = None


@dataclass(frozen=True)
class CostRow:
    """What one configuration cost, medians over its seeds; None where a record does not say.

    Attributes:
        share: trainable parameters as a share of the base's.
        wall_s, training_s: of the whole run, and of its training phase.
    """

    configuration: str
    trainable_parameters: int | None
    share: float | None
    saved_bytes: int | None
    wall_s: float | None
    training_s: float | None
    tokens_per_s: float | None
    peak_rss_bytes: int | None
    peak_device_bytes: int | None


@dataclass(frozen=True)
class FailedGate:
    """A gate that failed in a run; ``withholds`` are the verdicts that it takes away (none: it only warns)."""

    configuration: str
    seed: int | None
    task: str | None
    model: str | None
    name: str
    reason: Reason
    withholds: frozenset[Verdict]


@dataclass(frozen=True)
class Group:
    """Runs that can be compared: the same base checkpoint, items and generation settings.

    Attributes:
        facts: what the runs share, for the section on what was compared: ``model``, ``source``, ``revision``,
            ``checkpoint_sha256``; ``data`` (task -> split -> statistics with ``fingerprint``; of the first run that has
            the split); ``data_variants`` (task -> split -> list of statistics, one for each fingerprint, first run
            first; only splits in which runs differ); ``quantizations``, ``compute_dtypes``, ``devices``, ``seeds``,
            ``commits`` (lists of all values); ``versions`` (library -> list of all values); ``budgets`` (one mapping
            for each configuration: ``configuration``, ``examples``, ``epochs``, ``steps``, ``tokens``,
            ``learning_rate``; None where a record does not say); ``learning_rates`` (kind -> learning rates tried);
            ``imported`` (where figures come from, or None).
        varying: dotted keys of the configuration that differ between configurations, the seed left out.
        tried: runs that were compared; a winner is the best of so many.
        warnings: differences that do not forbid the comparison but have to be told (budgets, library versions).
        base_runs: runs of the base alone (``adapter=none``): they belong to no configuration and are not in ``tried``;
            their answers stand beside those of the other runs' bases.
    """

    facts: Mapping[str, Any]
    varying: tuple[str, ...]
    configurations: tuple[Configuration, ...]
    tasks: tuple[TaskComparison, ...]
    balance: tuple[BalanceRow, ...]
    costs: tuple[CostRow, ...]
    gates: tuple[FailedGate, ...]
    warnings: tuple[Reason, ...]
    tried: int
    base_runs: tuple[Run, ...] = ()

    def configuration(self, name: str) -> Configuration:
        """The configuration of that name."""
        return next(one for one in self.configurations if one.name == name)


@dataclass(frozen=True)
class Comparison:
    """All groups, the runs that take no part, and why the runs fell into several groups.

    Attributes:
        split: for each group after the first, how it differs from the first.
        resamples, confidence, alpha: of the statistics.
    """

    groups: tuple[Group, ...]
    refused: tuple[Refused, ...]
    split: tuple[Reason, ...]
    resamples: int
    confidence: float
    alpha: float
