"""Heavy libraries imported quietly, once, and without what is not used of them.

Three things make these imports slow, each some seconds: bitsandbytes loads torch's compiler, transformers' Trainer
loads ``datasets`` with pandas and pyarrow, and the garbage collector walks the new modules again and again.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Lines about something the user can neither change nor act on.
NOISY_LOGGERS = ("bitsandbytes.backends.cpu.ops", "bitsandbytes.autograd._functions", "bitsandbytes.cextension")


def quiet_loggers() -> None:
    """Lower the loggers of libraries that need not be imported yet: some of them speak while being imported."""
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def quiet_libraries() -> None:
    """Import transformers without progress bars, advice and telemetry; idempotent.

    Missing or unexpected weights are errors here and are checked by ``load_base``, so nothing that matters is lost.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    quiet_loggers()
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    with uncollected():
        with hidden("datasets"):  # transformers asks once and keeps the answer; no dataset of that library comes here
            from transformers.utils import is_bitsandbytes_available, is_datasets_available

            is_datasets_available()
        is_bitsandbytes_available()
        importlib.import_module("transformers.modeling_utils")
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def import_peft(*, packed: bool) -> None:
    """Import PEFT; for a model without packed weights it takes bitsandbytes for absent, which it otherwise imports.

    Args:
        packed: the model has weights of bitsandbytes.
    """
    if packed:
        import_bitsandbytes()
    with uncollected(), hidden(*(() if packed else ("bitsandbytes",))):
        from peft.import_utils import is_bnb_4bit_available, is_bnb_available

        if packed:  # an earlier model of this process may have had none
            is_bnb_available.cache_clear()
            is_bnb_4bit_available.cache_clear()
        is_bnb_available()
        is_bnb_4bit_available()


def import_bitsandbytes() -> None:
    """Import bitsandbytes without its lookup of a kernel on the hub (done at import, on CPUs with AVX512-BF16)."""
    with uncollected(), hidden("kernels"):
        importlib.import_module("bitsandbytes")


@contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Let imports of packages fail in the block as if they were not installed; those imported already stay."""
    absent = [name for name in names if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


@contextmanager
def uncollected() -> Iterator[None]:
    """Import without garbage collection: modules stay, so walking them while they come is lost time.

    Nor are they walked later: a collection takes half a second with all of them, and a run makes several. What else
    is there then is not collected either, until ``collect_everything``.
    """
    was_on, known = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()
        if was_on:
            gc.enable()


def collect_everything() -> None:
    """Collect garbage among all objects, those of ``uncollected`` too, which then are passed over again."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
