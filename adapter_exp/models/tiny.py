"""A random-weight Llama of 91 thousand parameters with a byte-level tokenizer: for tests and format checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapter_exp.models.saving import save_model

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL_TOKENS = ("<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>")


def write_tiny(folder: Path, *, seed: int = 0, chat: bool = True, pad_token: str | None = None, **config: Any) -> Path:
    """Write config, random weights (safetensors) and tokenizer files of a tiny Llama to ``folder``.

    Args:
        seed: draws the weights.
        chat: whether the tokenizer carries a chat template.
        pad_token: pad token, or None for a tokenizer that lacks one (as stock Llama's does).
        config: overrides of the ``LlamaConfig`` values below.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from adapter_exp.models.quiet import quiet_libraries

    quiet_libraries()  # one shard needs no progress bar

    values: dict[str, Any] = {
        "vocab_size": 256 + len(SPECIAL_TOKENS),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "bos_token_id": 256,
        "eos_token_id": 257,
        "tie_word_embeddings": True,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**(values | config)))
    save_model(model, folder)
    _tokenizer(chat=chat, pad_token=pad_token).save_pretrained(folder)
    return folder


def _tokenizer(*, chat: bool, pad_token: str | None) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token=pad_token, model_max_length=1024
    )
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
