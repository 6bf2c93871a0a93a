"""The weights of the lowest validation loss, kept beside the checkpoints."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

FILE = "best.safetensors"


def save_best(model: torch.nn.Module, folder: Path) -> None:
    """Write the trainable parameters of ``model`` to ``folder``, replacing a former best atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{FILE}.{os.getpid()}"
    save_file({name: p.detach().cpu().contiguous() for name, p in _trainable(model).items()}, temporary)
    temporary.replace(folder / FILE)


def load_best(model: torch.nn.Module, folder: Path) -> None:
    """Copy the saved best weights into the trainable parameters of ``model``."""
    saved = load_file(folder / FILE)
    with torch.no_grad():
        for name, parameter in _trainable(model).items():
            parameter.copy_(saved[name])


def _trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}
