"""The report of a comparison as a document; every number in it comes from the ``Comparison``."""

from __future__ import annotations

from adapter_exp.comparison.model import Comparison, Group
from adapter_exp.report import (
    comparison_cost,
    comparison_forgetting,
    comparison_gates,
    comparison_ranking,
    comparison_setup,
    comparison_tasks,
    conclusions,
)
from adapter_exp.report.document import Block, Bullets, Document, Facts, Paragraph, Section
from adapter_exp.report.numbers import whole
from adapter_exp.report.texts import Texts, texts


def build_document(comparison: Comparison, language: str) -> Document:
    """The report in ``language`` (``en`` or ``ru``): sections 1 to 8 for each group of comparable runs.

    Raises:
        UserError: for another language.
    """
    t = texts(language)
    groups = comparison.groups
    if len(groups) == 1:
        sections = _group_sections(comparison, groups[0], t, prefix="")
    else:
        sections = tuple(
            Section(
                t("group.title", number=number, model=comparison_setup.model_name(group)),
                sections=_group_sections(comparison, group, t, prefix=f"group{number}_"),
            )
            for number, group in enumerate(groups, 1)
        )
        if comparison.refused:
            sections += (Section(t("gates.refused_title"), comparison_gates.refused(comparison, t)),)
    return Document(t("title"), language, _intro(comparison, t), sections)


def _intro(comparison: Comparison, t: Texts) -> tuple[Block, ...]:
    groups = comparison.groups
    if not groups:
        return (Paragraph(t("intro.nothing"), tone="warn"),)
    alone = sum(len(group.base_runs) for group in groups)
    runs = t.count("run", alone + sum(len(one.runs) for group in groups for one in group.configurations))
    if alone:
        runs += f" ({t('intro.base_only', number=alone)})"
    counts = [runs, t.count("configuration", sum(len(group.configurations) for group in groups))]
    if comparison.refused:
        counts.append(t("intro.refused", number=len(comparison.refused)))
    method = t(
        "intro.method",
        confidence=f"{comparison.confidence:.0%}",
        resamples=whole(comparison.resamples),
        alpha=f"{comparison.alpha:g}",
    )
    blocks: list[Block] = [Facts(((t("intro.compared"), ", ".join(counts)),)), Paragraph(method, tone="muted")]
    if len(groups) > 1:
        blocks.append(Paragraph(t("intro.groups", number=len(groups)), tone="warn"))
        blocks.append(
            Bullets(
                tuple(
                    t("intro.split", number=number, reason=t.reason(reason))
                    for number, reason in enumerate(comparison.split, 2)
                )
            )
        )
    return tuple(blocks)


def _group_sections(comparison: Comparison, group: Group, t: Texts, prefix: str) -> tuple[Section, ...]:
    """Sections 1 to 8; ``prefix`` keeps the files of figures of several groups apart."""
    sections = (
        comparison_setup.compared(group, t),
        comparison_setup.adapters(group, t),
        comparison_tasks.results(group, t, prefix),
        comparison_ranking.ranking(group, t, prefix),
        comparison_forgetting.forgetting(group, t, prefix),
        comparison_cost.cost(group, t, prefix),
        comparison_gates.gates(comparison if len(comparison.groups) == 1 else None, group, t),
        conclusions.conclusions(comparison, group, t),
    )
    return tuple(
        Section(f"{number}. {section.title}", section.blocks, section.sections)
        for number, section in enumerate(sections, 1)
    )
