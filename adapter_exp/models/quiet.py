"""Silences what the libraries print while loading, so that what is left on the screen matters."""

from __future__ import annotations

import logging
import os
import sys

# Lines about something the user can neither change nor act on.
NOISY_LOGGERS = ("bitsandbytes.backends.cpu.ops", "bitsandbytes.autograd._functions", "bitsandbytes.cextension")


def quiet_loggers() -> None:
    """Lower the loggers of libraries that need not be imported yet: some of them speak while being imported."""
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def quiet_libraries() -> None:
    """Stop progress bars, advice and telemetry of transformers, huggingface_hub and bitsandbytes; idempotent.

    Missing or unexpected weights are errors here and are checked by ``load_base``, so nothing that matters is lost.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    quiet_loggers()
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    _import_bitsandbytes()


def _import_bitsandbytes() -> None:
    """Import bitsandbytes without its lookup of a kernel on the hub (done at import, on CPUs with AVX512-BF16)."""
    if "bitsandbytes" in sys.modules:
        return
    missing = "kernels" not in sys.modules
    if missing:
        sys.modules["kernels"] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        import bitsandbytes  # noqa: F401 - imported now, while the lookup is blocked
    finally:
        if missing:
            del sys.modules["kernels"]
