"""The tokenizer with its special tokens in order, and what was done to them in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adapter_exp.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def load_tokenizer(folder: Path, name: str) -> tuple[PreTrainedTokenizerFast, tuple[str, ...]]:
    """The fast tokenizer of a checkpoint and notes for the user on its special tokens.

    Raises:
        UserError: no tokenizer, a slow one (character offsets are needed), or one without an end-of-sequence token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"model: '{name}' in {folder} has no usable tokenizer ({reason})") from error
    if not tokenizer.is_fast:
        raise UserError(f"model: '{name}' has no fast tokenizer (tokenizer.json), which is needed to find the answers")
    if tokenizer.eos_token_id is None:
        raise UserError(f"model: '{name}' has no end-of-sequence token in its tokenizer, so answers could not end")
    return tokenizer, (_set_padding(tokenizer), *_describe_bos(tokenizer))


def _set_padding(tokenizer: PreTrainedTokenizerFast) -> str:
    # Masking by id would hide the true end of sequence from the loss, and the model would never stop.
    how = "padding is masked by position, so the true end of sequence stays in the loss"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
        return f"Pad token: none in the tokenizer, {tokenizer.eos_token} (end of sequence) is used; {how}."
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        return f"Pad token: {tokenizer.pad_token}, the same as end of sequence; {how}."
    return f"Pad token: {tokenizer.pad_token}."


def _describe_bos(tokenizer: PreTrainedTokenizerFast) -> tuple[str, ...]:
    """Say who writes the beginning-of-sequence token; there must be one writer at most.

    A chat template writes its own where the model has one, and is tokenised without the tokenizer's; plain text gets
    the tokenizer's (see ``data.rendering``).
    """
    bos = tokenizer.bos_token
    if bos is None:
        return ()
    count = tokenizer("x")["input_ids"].count(tokenizer.bos_token_id)
    lines = [f"Beginning of sequence: {bos}, {'once' if count else 'not added'} in plain text."]
    if tokenizer.chat_template:
        prompt = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
        if not str(prompt).startswith(bos):
            lines.append(f"The chat template writes no {bos}; none is added.")
    return tuple(lines)
