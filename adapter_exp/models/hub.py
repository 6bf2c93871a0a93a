"""Models from the Hugging Face hub: safetensors and tokenizer files only, never pickle, never remote code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from adapter_exp.errors import UserError

if TYPE_CHECKING:
    from adapter_exp.models.specs import HubModel

ALLOWED = ("*.safetensors", "*.json", "*.jinja", "tokenizer*", "*.model", "merges.txt", "vocab.txt")
# Subfolders hold other formats of the same weights; `consolidated` is Mistral's second copy of 14 GB.
IGNORED = ("*/*", "consolidated*")


def download(model: HubModel) -> Path:
    """The snapshot's folder in the hub's own cache; its name is the commit.

    Raises:
        UserError: licence not accepted, unknown repository or revision, no connection and not in the cache.
    """
    import huggingface_hub

    with _hub_errors(model):
        folder = huggingface_hub.snapshot_download(
            model.id, revision=model.revision, allow_patterns=list(ALLOWED), ignore_patterns=list(IGNORED)
        )
    return Path(folder)


def download_config(model: HubModel) -> Path:
    """Folder with the model's ``config.json``; nothing else is fetched."""
    import huggingface_hub

    with _hub_errors(model):
        return Path(huggingface_hub.hf_hub_download(model.id, "config.json", revision=model.revision)).parent


@contextmanager
def _hub_errors(model: HubModel) -> Iterator[None]:
    from huggingface_hub import errors

    # The base error of the hub client's HTTP library, whichever library that is.
    transport_error = cast(type[Exception], errors.HfHubHTTPError.__bases__[0])
    try:
        yield
    except errors.GatedRepoError as error:
        line = f"accept its licence at https://huggingface.co/{model.id} and set HF_TOKEN to a token of that account"
        raise UserError(f"model.id: '{model.id}' is gated; {line}") from error
    except errors.RepositoryNotFoundError as error:
        line = "is not on the hub, or is private and HF_TOKEN does not open it; check the spelling (owner/name)"
        raise UserError(f"model.id: '{model.id}' {line}") from error
    except errors.RevisionNotFoundError as error:
        line = f"'{model.revision}' is no branch, tag or commit of '{model.id}'; use main or a commit"
        raise UserError(f"model.revision: {line}") from error
    except errors.EntryNotFoundError as error:
        # Before ConnectionError: an entry missing from the local cache is both kinds of error.
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise UserError(_offline(model)) from error
        raise UserError(f"model.id: '{model.id}' has no config.json; choose a transformers model") from error
    except (errors.OfflineModeIsEnabled, ConnectionError, TimeoutError) as error:
        raise UserError(_offline(model)) from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "no answer")
        raise UserError(f"model.id: '{model.id}' could not be fetched (HTTP {status}); try again later") from error
    except transport_error as error:
        reason = type(error).__name__
        raise UserError(f"model.id: '{model.id}': the connection broke ({reason}); run it again to go on") from error


def _offline(model: HubModel) -> str:
    return (
        f"model.id: '{model.id}' at '{model.revision}' is not in the local hub cache and the hub cannot be reached; "
        "connect once (and unset HF_HUB_OFFLINE), or use model=folder"
    )
