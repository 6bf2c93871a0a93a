"""Write a Llama with random weights and another model's tokenizer: speed and memory do not ask what weights say.

python benchmarks/random_model.py FOLDER TOKENIZER_FOLDER llama_8b
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

SHAPES: dict[str, dict[str, Any]] = {
    # Grattafiori et al. 2024, "The Llama 3 Herd of Models", table 3; 256 of the tokens are special.
    "llama_8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
        "rope_theta": 500000.0,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
    },
}


def main(folder: Path, tokenizer: Path, shape: str) -> None:
    """Write the folder in transformers' layout, weights in bfloat16."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    tokens = json.loads((tokenizer / "config.json").read_text(encoding="utf-8"))
    special = {key: tokens[key] for key in ("bos_token_id", "eos_token_id")}
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM(LlamaConfig(**SHAPES[shape], **special, tie_word_embeddings=False))
    model.save_pretrained(folder)
    for path in tokenizer.iterdir():
        if path.suffix != ".safetensors" and not path.name.startswith(("config", "generation_config")):
            shutil.copy(path, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
