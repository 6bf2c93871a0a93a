"""Fixtures shared by all tests: tiny random models, offline, on the CPU."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_collection_finish() -> None:
    """Walking everything that is imported by now would take most of the time of each garbage collection."""
    gc.freeze()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The number of threads decides how sums are split, and with it their last bits."""
    import torch

    former = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(former)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny random Llama (4 layers, hidden 64, chat template, no pad token)."""
    from adapter_exp.models.tiny import write_tiny

    return write_tiny(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def tiny_model(tiny_folder: Path):
    """A fresh unquantised fp32 copy of the tiny model, frozen and in eval mode."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    return model.requires_grad_(False).eval()


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_folder: Path):
    """The tiny model's tokenizer, pad set to eos as `models` does it."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
