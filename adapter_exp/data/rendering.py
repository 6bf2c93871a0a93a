"""Messages to token ids: chat template or plain text, supervised tokens found by character offsets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Llama 3 templates print a date: a fixed one keeps prompts, hashes and scores the same tomorrow.
TEMPLATE_DATE = "26 Jul 2024"
_PROBE = "\u241f"


@dataclass(frozen=True)
class TrainingRow:
    """One tokenised example.

    Attributes:
        ids: prompt, answer and end token.
        prompt_tokens: ``ids[prompt_tokens:]`` is supervised.
        truncated: whether the row was longer than the limit and lost the end of its answer.
    """

    ids: list[int]
    prompt_tokens: int
    truncated: bool


class Renderer:
    """Turns a task's messages into token ids; one per tokenizer and task.

    Args:
        tokenizer: a fast tokenizer (offsets are needed).
        system: instruction that all examples share, "" for none.
        chat: use the tokenizer's chat template; otherwise ``system``, the user's message and the answer are joined
            by line feeds.
        extra_end_ids: further tokens that the checkpoint's authors let end an answer (Llama 3.1 has three).
        max_length: longest row in tokens, prompt, answer and end token together.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        *,
        system: str,
        chat: bool,
        max_length: int,
        extra_end_ids: frozenset[int] = frozenset(),
    ) -> None:
        self.extra_end_ids = extra_end_ids
        self.tokenizer = tokenizer
        self.system = system
        self.chat = chat
        self.max_length = max_length

    def prompt_text(self, user: str) -> str:
        """The text that the model continues with its answer."""
        if not self.chat:
            return "\n".join(part for part in (self.system, user) if part) + "\n"
        return self._template(self._messages(user), add_generation_prompt=True)

    def prompt_ids(self, user: str) -> list[int]:
        """Token ids of ``prompt_text(user)``, with exactly one beginning-of-sequence token where the model has one."""
        ids, _ = self._encode(self.prompt_text(user))
        return ids

    def training_row(self, user: str, target: str) -> TrainingRow:
        """Tokenise prompt and answer as one text, so that no token boundary differs from what the model will see.

        A token is supervised when it covers a character of the answer or is the end token.
        """
        prompt = self.prompt_text(user)
        ids, starts = self._encode(prompt + target)
        prompt_tokens = next((i for i, end in enumerate(starts) if end > len(prompt)), len(ids))
        ids.append(self.end_id)
        return TrainingRow(ids[: self.max_length], prompt_tokens, truncated=len(ids) > self.max_length)

    def answer_ids(self, user: str, answer: str) -> list[int]:
        """Token ids of ``answer`` after the prompt for ``user``, end token included."""
        prompt = self.prompt_text(user)
        ids, ends = self._encode(prompt + answer)
        first = next((i for i, end in enumerate(ends) if end > len(prompt)), len(ids))
        return [*ids[first:], self.end_id]

    @cached_property
    def end_id(self) -> int:
        """The token that ends an answer: what the template puts behind one, else the end-of-sequence token."""
        if self.chat:
            rendered = self._template([*self._messages("x"), {"role": "assistant", "content": _PROBE}])
            tail, _ = self._encode(rendered.rpartition(_PROBE)[2])
            special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder)
            for token in tail:
                if token in special and token != self.tokenizer.bos_token_id:
                    return token
        return int(self.tokenizer.eos_token_id)

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """Every token that ends an answer."""
        return frozenset({self.end_id, int(self.tokenizer.eos_token_id)}) | self.extra_end_ids

    @cached_property
    def _system_role(self) -> bool:
        """Whether the template takes a system message (Gemma's and Mistral 0.1's do not)."""
        from jinja2 import TemplateError

        messages = [{"role": "system", "content": _PROBE}, {"role": "user", "content": "x"}]
        try:
            return _PROBE in self._template(messages)
        except TemplateError:
            return False

    def _messages(self, user: str) -> list[dict[str, str]]:
        if self.system and self._system_role:
            return [{"role": "system", "content": self.system}, {"role": "user", "content": user}]
        content = f"{self.system}\n{user}" if self.system else user
        return [{"role": "user", "content": content}]

    def _template(self, messages: list[dict[str, str]], **options: Any) -> str:
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, date_string=TEMPLATE_DATE, **options)
        return str(text)

    def _encode(self, text: str) -> tuple[list[int], list[int]]:
        """Token ids and the end offset of each in ``text``."""
        # A template writes its own beginning-of-sequence token; plain text gets the tokenizer's.
        encoding = self.tokenizer(text, add_special_tokens=not self.chat, return_offsets_mapping=True)
        pairs = list(zip(encoding["input_ids"], encoding["offset_mapping"], strict=True))
        while len(pairs) > 1 and not self.chat and pairs[-1][0] == self.tokenizer.eos_token_id:
            pairs.pop()  # some tokenizers append end-of-sequence to every text
        return [token for token, _ in pairs], [int(offset[1]) for _, offset in pairs]
