"""The weights of the lowest validation loss, kept beside the checkpoints."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from adapter_exp.errors import UserError
from adapter_exp.files import flush
from adapter_exp.training.checkpoints import START_ANEW

FILE = "best.safetensors"


def save_best(model: torch.nn.Module, folder: Path, step: int) -> None:
    """Write the trainable parameters of ``model`` and their step to ``folder``, replacing a former best atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{FILE}.{os.getpid()}"
    weights = {name: p.detach().cpu().contiguous() for name, p in _trainable(model).items()}
    save_file(weights, temporary, metadata={"step": str(step)})
    flush(temporary)
    temporary.replace(folder / FILE)


def load_best(model: torch.nn.Module, folder: Path) -> int:
    """Copy the saved best weights into the trainable parameters of ``model`` and return their step.

    Raises:
        UserError: if the file is damaged.
    """
    path = folder / FILE
    try:
        saved = load_file(path)
        with safe_open(path, framework="pt") as file:
            step = int(file.metadata()["step"])
    except SafetensorError as error:
        raise UserError(f"{path}: damaged since it was written ({error}); {START_ANEW}.") from error
    with torch.no_grad():
        for name, parameter in _trainable(model).items():
            parameter.copy_(saved[name])
    return step


def _trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}
