"""The model cache on disk: hashes remembered per file, manifests, folders written by one process at a time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from adapter_exp.files import atomic_folder, sha256_file, write_json_atomic

MANIFEST = "manifest.json"
# Files up to this size are hashed at every use (milliseconds); larger ones once per size, time and inode.
ALWAYS_HASHED_BYTES = 1 << 20
_WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json")
_TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "chat_template*",
    "*.model",
)


def cached_sha256(path: Path, cache_dir: Path) -> str:
    """Hex SHA-256 of ``path``; a large file is read again only when its size, time of change or inode has changed."""
    stat = path.stat()
    if stat.st_size <= ALWAYS_HASHED_BYTES:
        return sha256_file(path)
    resolved = str(path.resolve())
    identity = [resolved, stat.st_size, stat.st_mtime_ns, stat.st_ino]
    stamp = cache_dir / "stamps" / f"{hashlib.sha256(resolved.encode()).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError):  # an absent or damaged stamp only costs the hash
        known = json.loads(stamp.read_text(encoding="utf-8"))
        if isinstance(known, dict) and known.get("identity") == identity:
            return str(known["sha256"])
    digest = sha256_file(path)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    write_json_atomic(stamp, {"identity": identity, "sha256": digest})
    return digest


def checkpoint_sha256(folder: Path, cache_dir: Path) -> str:
    """One hash over the names and hashes of a checkpoint's weights, config and tokenizer files."""
    patterns = (*_WEIGHT_FILES, *_TOKENIZER_FILES)
    files = sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})
    lines = [f"{file.name} {cached_sha256(file, cache_dir)}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def find_fault(folder: Path, cache_dir: Path) -> str | None:
    """What is wrong with a folder that :func:`build_once` wrote, or None when every file has its recorded hash."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, record in manifest["files"].items():
            file = folder / name
            if file.stat().st_size != record["bytes"] or cached_sha256(file, cache_dir) != record["sha256"]:
                return f"{name} is not what was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read ({type(error).__name__})"
    return None


def build_once(
    folder: Path,
    cache_dir: Path,
    build: Callable[[Path], None],
    *,
    on_build: Callable[[str | None], None] = lambda fault: None,
) -> Path:
    """Return ``folder``, whole and verified; ``build`` writes it when it is absent or damaged.

    Other processes that want the same folder wait and take the result. A process that dies leaves nothing at
    ``folder``; what it left beside it is removed by the next one.

    Args:
        build: writes the files into the (temporary) folder it is given.
        on_build: told before building, with the fault of the folder that is replaced or None.
    """
    if folder.exists() and find_fault(folder, cache_dir) is None:
        return folder
    with _exclusive(folder):
        fault = find_fault(folder, cache_dir) if folder.exists() else None
        if folder.exists() and fault is None:
            return folder
        for leftover in folder.parent.glob(f".{folder.name}.*/"):
            shutil.rmtree(leftover, ignore_errors=True)
        on_build(fault)
        with atomic_folder(folder) as temporary:
            build(temporary)
            _write_manifest(temporary)
    return folder


def _write_manifest(folder: Path) -> None:
    files = sorted(file for file in folder.iterdir() if file.is_file())
    for file in files:
        file.chmod(0o644)  # the safetensors library writes private files
    records = {file.name: {"bytes": file.stat().st_size, "sha256": sha256_file(file)} for file in files}
    write_json_atomic(folder / MANIFEST, {"files": records})


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    # The system drops the lock of a process that dies, so a killed conversion never blocks the next one.
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f"{folder.name}.lock"):
        yield
