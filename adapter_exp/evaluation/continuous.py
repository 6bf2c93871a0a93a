"""Generation in slots: a finished row makes room for a waiting prompt."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from adapter_exp.engine.decode import AnswerBatch
from adapter_exp.engine.layout import prefix_before_own
from adapter_exp.engine.specs import PASS_TOKENS, SpeedConfig
from adapter_exp.evaluation.generation import Finished, Questions

if TYPE_CHECKING:
    from adapter_exp.engine.frozen_prompts import KeptPrompts
    from adapter_exp.evaluation.decoding import Picker

# Waiting prompts are taken in when this share of the slots is free: each pass over few tokens reads all weights.
_REFILL_SHARE = 1 / 8


@dataclass
class _Row:
    row: int
    tokens: list[int] = field(default_factory=list)
    milliseconds: float = 0.0


def answer_packed(
    questions: Questions, order: Sequence[int], batch_size: int, speed: SpeedConfig, kept: KeptPrompts | None
) -> Iterator[list[Finished]]:
    """Answer the prompts ``order`` (numbers in ``questions.prompts``, at least one), at most ``batch_size`` at a time.

    Args:
        kept: the prompts, having passed the layers below the adapter; None: all layers run.

    Yields:
        the answers that a pass finished.
    """
    waiting = deque(order)
    prefix = _prefix([questions.prompts[row] for row in order], speed)
    longest = max(len(questions.prompts[row]) for row in order)
    rows = min(batch_size, len(order))
    batch = AnswerBatch(
        questions.model,
        questions.prompts[order[0]],
        prefix,
        rows=rows,
        capacity=longest - prefix + questions.decoding.max_new_tokens,
        kept=kept,
    )
    refill = max(1, round(rows * _REFILL_SHARE)) if speed.continuous_batching else rows
    picker, active, filling = questions.picker(), list[_Row](), False
    while waiting or active:
        started = time.perf_counter()
        free = rows - len(active)
        filling = bool(waiting) and free > 0 and (filling or free >= refill)  # once begun, until all slots are taken
        if filling:
            asked = [_Row(row) for row in _next(waiting, free, questions.prompts, prefix)]
            active += asked
            logits = batch.prefill([questions.prompts[one.row] for one in asked])
        else:
            asked = active
            logits = batch.step([one.tokens[-1] for one in asked])
        _append(asked, picker, logits, questions)
        milliseconds = 1000 * (time.perf_counter() - started) / len(asked)
        for one in asked:
            one.milliseconds += milliseconds
        over = [slot for slot, one in enumerate(active) if questions.ends(one.tokens)]
        if over:
            yield [Finished(one.row, one.tokens, one.milliseconds) for one in (active[slot] for slot in over)]
            active = [active[former] for former in batch.free(over)]


def _prefix(prompts: Sequence[Sequence[int]], speed: SpeedConfig) -> int:
    """Tokens to share; every prompt keeps its last one, which predicts the answer's first."""
    if speed.shared_prefix == "never" or len(prompts) < 2:
        return 0
    return prefix_before_own(prompts)


def _next(waiting: deque[int], most: int, prompts: Sequence[Sequence[int]], prefix: int) -> list[int]:
    """Take prompts for one pass."""
    taken = [waiting.popleft()]
    tokens = len(prompts[taken[0]]) - prefix
    while waiting and len(taken) < most and tokens + len(prompts[waiting[0]]) - prefix <= PASS_TOKENS:
        taken.append(waiting.popleft())
        tokens += len(prompts[taken[-1]]) - prefix
    return taken


def _append(asked: Sequence[_Row], picker: Picker, logits: torch.Tensor, questions: Questions) -> None:
    """Add the next token to each row."""
    if picker.penalised:
        so_far = [torch.tensor([*questions.prompts[one.row], *one.tokens]) for one in asked]
        seen = torch.nn.utils.rnn.pad_sequence(so_far, batch_first=True, padding_value=logits.shape[-1])
    else:
        seen = logits.new_empty(len(asked), 0, dtype=torch.long)
    picked = picker.pick(seen.to(logits.device), logits, [one.row for one in asked])
    for one, token in zip(asked, picked.tolist(), strict=True):
        one.tokens.append(token)
