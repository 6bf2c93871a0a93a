"""One model on one task: ask everything in batches, judge each item, summarise."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from adapter_exp import __version__
from adapter_exp.data.fingerprint import item_hash
from adapter_exp.engine.specs import SpeedConfig
from adapter_exp.errors import UserError
from adapter_exp.evaluation.batching import EVERY_SAVING, Progress
from adapter_exp.evaluation.choices import Scored, score_rows
from adapter_exp.evaluation.decoding import Decoding
from adapter_exp.evaluation.generation import Generated, generate
from adapter_exp.evaluation.predictions import Prediction
from adapter_exp.evaluation.specs import BatchSize
from adapter_exp.evaluation.statistics import Interval, metric_intervals
from adapter_exp.tasks.protocol import Answer, Choose, Example, Generate, Outcome, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from adapter_exp.data.rendering import Renderer
    from adapter_exp.engine.frozen import FrozenLayers

RESAMPLES = 2000
LIBRARIES = ("torch", "transformers", "bitsandbytes")
"""Their code computes the scores, so another version can give others."""
Slot = tuple[int, int]
"""(item, request) numbers: where an answer belongs."""


@dataclass(frozen=True)
class Evaluation:
    """One model's result on one task.

    Attributes:
        predictions: one row per item, in the examples' order.
        metrics: every metric of the task with its bootstrap interval.
        seconds: wall time of asking and judging, without the bootstrap.
        generated_tokens: over all items.
        unparsed: items whose answer could not be read.
        batch_size: most rows computed together, after any halving; None where nothing was asked.
    """

    predictions: list[Prediction]
    metrics: dict[str, Interval]
    seconds: float
    generated_tokens: int
    unparsed: int
    batch_size: int | None = field(default=None, compare=False)

    @property
    def outcomes(self) -> list[Outcome]:
        """The task's judgement of each item."""
        return [row.outcome for row in self.predictions]


def default_decoding(task: Task) -> Decoding:
    """Greedy decoding with the task's own stop strings and length."""
    return Decoding(task.max_new_tokens, task.stop)


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    renderer: Renderer,
    task: Task,
    examples: Sequence[Example],
    *,
    batch_size: BatchSize,
    speed: SpeedConfig = EVERY_SAVING,
    frozen: FrozenLayers | None = None,
    decoding: Decoding | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Ask ``model`` all requests of ``task`` about ``examples``, in batches across items, and judge the answers.

    Args:
        batch_size: most rows computed together; ``auto``: as many as pay and fit.
        speed: which savings are used; in fp32 they change no answer.
        frozen: keeps what the layers below the lowest adapter make of prompts and labels.
        decoding: how answers are generated; None is greedy with the task's stop strings and length.
        resamples, seed: of the bootstrap.
        on_progress: called with the answers had so far and the answers in all.

    Raises:
        UserError: without examples, or when several samples are asked for under greedy decoding.
        NotFiniteError: when the model's outputs are not finite.
    """
    if not examples:
        raise UserError(f"task {task.name}: there are no examples to evaluate")
    started = time.perf_counter()
    asker = _Asker(model, tokenizer, renderer, decoding or default_decoding(task), batch_size, speed, frozen)
    with _fused(model, speed):
        answers = asker.ask(task, examples, on_progress)
    rows = [
        _judge(task, renderer, example, [answers[item, number] for number in range(len(task.requests(example)))])
        for item, example in enumerate(examples)
    ]
    seconds = time.perf_counter() - started
    return replace(
        summarise(task, rows, seconds=seconds, resamples=resamples, seed=seed), batch_size=asker.smallest_batch
    )


def summarise(
    task: Task, predictions: Sequence[Prediction], *, seconds: float, resamples: int = RESAMPLES, seed: int = 0
) -> Evaluation:
    """Metrics of rows that were judged already, for example read from a file."""
    metrics = metric_intervals(
        task.aggregate,
        [row.statistics for row in predictions],
        [row.group for row in predictions],
        resamples=resamples,
        seed=seed,
    )
    return Evaluation(
        predictions=list(predictions),
        metrics=metrics,
        seconds=seconds,
        generated_tokens=sum(row.new_tokens for row in predictions),
        unparsed=sum(not row.parsed for row in predictions),
    )


def _fused(model: Any, speed: SpeedConfig) -> AbstractContextManager[None]:
    if not speed.fused:
        return nullcontext()
    from adapter_exp.engine.fused import fused_modules

    return fused_modules(model)


class _Asker:
    """Collects the requests of all items, asks each kind in one go and hands the answers back by slot."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        renderer: Renderer,
        decoding: Decoding,
        batch_size: BatchSize,
        speed: SpeedConfig,
        frozen: FrozenLayers | None,
    ) -> None:
        self.model, self.tokenizer, self.renderer = model, tokenizer, renderer
        self.decoding, self.batch_size, self.speed, self.frozen = decoding, batch_size, speed, frozen
        self.smallest_batch: int | None = None

    def ask(self, task: Task, examples: Sequence[Example], on_progress: Progress | None) -> dict[Slot, Answer]:
        """Answers to every request of every example."""
        generated: list[tuple[Slot, list[int]]] = []
        scored: list[tuple[Slot, tuple[list[int], list[int]]]] = []
        for item, example in enumerate(examples):
            user = task.prompt(example)
            prompt = self.renderer.prompt_ids(user)
            for number, request in enumerate(task.requests(example)):
                slot = item, number
                if isinstance(request, Generate):
                    self._check_samples(task, request)
                    generated += [(slot, prompt)] * request.samples
                else:
                    texts = request.labels if isinstance(request, Choose) else (request.text,)
                    scored += [(slot, (prompt, self.renderer.answer_ids(user, text))) for text in texts]
        total = len(generated) + len(scored)
        answers = self._generate(generated, _shifted(on_progress, 0, total))
        return answers | self._score(scored, _shifted(on_progress, len(generated), total))

    def _check_samples(self, task: Task, request: Generate) -> None:
        if request.samples > 1 and self.decoding.temperature == 0:
            raise UserError(
                f"eval.temperature: '0' makes all {request.samples} samples that task {task.name} asks for equal; "
                "set it above 0"
            )

    def _generate(self, asked: Sequence[tuple[Slot, list[int]]], on_progress: Progress | None) -> dict[Slot, Answer]:
        texts = generate(
            self.model,
            self.tokenizer,
            [prompt for _, prompt in asked],
            self.decoding,
            end_ids=self.renderer.end_ids,
            batch_size=self.batch_size,
            speed=self.speed,
            frozen=self.frozen,
            on_progress=on_progress,
        )
        self._note_batches(texts)
        grouped: dict[Slot, list[Generated]] = {}
        for (slot, _), text in zip(asked, texts, strict=True):
            grouped.setdefault(slot, []).append(text)
        return {
            slot: Answer(
                texts=tuple(one.text for one in several),
                new_tokens=sum(one.new_tokens for one in several),
                milliseconds=sum(one.milliseconds for one in several),
            )
            for slot, several in grouped.items()
        }

    def _score(
        self, asked: Sequence[tuple[Slot, tuple[list[int], list[int]]]], on_progress: Progress | None
    ) -> dict[Slot, Answer]:
        rows = [row for _, row in asked]
        answers: dict[Slot, Answer] = {}
        scores = score_rows(
            self.model,
            self.tokenizer,
            rows,
            batch_size=self.batch_size,
            speed=self.speed,
            frozen=self.frozen,
            on_progress=on_progress,
        )
        self._note_batches(scores)
        for (slot, _), one in zip(asked, scores, strict=True):
            before = answers.get(slot, Answer())
            answers[slot] = Answer(
                logprobs=(*before.logprobs, one.logprob),
                new_tokens=before.new_tokens + one.tokens,
                milliseconds=before.milliseconds + one.milliseconds,
            )
        return answers

    def _note_batches(self, done: Sequence[Generated | Scored]) -> None:
        sizes = [one.batch_size for one in done] + ([] if self.smallest_batch is None else [self.smallest_batch])
        self.smallest_batch = min(sizes, default=None)


def _shifted(on_progress: Progress | None, before: int, total: int) -> Callable[[int, int], None] | None:
    """Progress of one kind of request as progress of all of them."""
    if on_progress is None:
        return None
    report = on_progress
    return lambda done, _: report(before + done, total)


def _judge(task: Task, renderer: Renderer, example: Example, answers: Sequence[Answer]) -> Prediction:
    outcome = task.score(example, answers)
    user = task.prompt(example)
    texts = [text for answer in answers for text in answer.texts]
    return Prediction(
        id=example.id,
        item_hash=item_hash(task.name, task.content(example)),
        group=example.group,
        prompt_hash=_prompt_hash(renderer.prompt_ids(user)),
        input=user,
        target=task.target(example),
        response=texts if len(texts) > 1 else next(iter(texts), None),
        prediction=outcome.prediction,
        parsed=outcome.parsed,
        statistics={key: float(value) for key, value in outcome.statistics.items()},
        logprobs=[list(answer.logprobs) for answer in answers if answer.logprobs],
        new_tokens=sum(answer.new_tokens for answer in answers if answer.texts),
        milliseconds=sum(answer.milliseconds for answer in answers),
    )


def _prompt_hash(ids: Sequence[int]) -> str:
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()[:16]


def evaluation_key(
    renderer: Renderer,
    task: Task,
    examples: Sequence[Example],
    *,
    checkpoint_sha256: str,
    quantization: str,
    compute_dtype: str,
    device: str,
    decoding: Decoding | None,
    batch_size: BatchSize,
    speed: SpeedConfig = EVERY_SAVING,
) -> str:
    """SHA-256 over everything that can change a base model's scores on ``examples``.

    Two evaluations with equal keys are of the same base, items, texts, token ids and settings. The batch size and the
    savings count only where they can change a score: not in float32. LLM.int8 computes in float16 and finds outlier
    columns over the whole batch (Dettmers et al. 2022, sec. 3.2), so there they count always.

    Args:
        compute_dtype: ``float32``, ``bfloat16`` or ``float16``, with or without ``torch.`` before it.
        device: ``cpu`` or ``cuda``; they round differently.
        decoding: as given to ``evaluate``.
    """
    dtype = compute_dtype.removeprefix("torch.")
    batch_free = dtype == "float32" and quantization != "int8"
    facts: Mapping[str, Any] = {
        "checkpoint": checkpoint_sha256,
        "quantization": quantization,
        "dtype": dtype,
        "device": device.partition(":")[0],
        "batch_size": None if batch_free else [batch_size, speed.model_dump(mode="json", exclude={"cache_gb"})],
        "task": [task.name, task.version, task.system, list(task.stop), task.max_new_tokens],
        "decoding": asdict(decoding or default_decoding(task)),
        "chat": renderer.chat,
        "end_ids": sorted(renderer.end_ids),
        "items": [_item_facts(renderer, task, example) for example in examples],
        "versions": [__version__, *(version(name) for name in LIBRARIES)],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _item_facts(renderer: Renderer, task: Task, example: Example) -> list[Any]:
    user = task.prompt(example)
    requests = [[type(request).__name__, asdict(request)] for request in task.requests(example)]
    prompt = _prompt_hash(renderer.prompt_ids(user))
    content = item_hash(task.name, task.content(example))
    return [example.id, example.group, content, prompt, task.target(example), requests]
