"""The two ways a run ends early on purpose, and how errors are told in a line."""

from __future__ import annotations


def first_line(kind: str, message: str) -> str:
    """An error in one line."""
    return f"{kind}: {(message.splitlines() or [''])[0]}"


class UserError(Exception):
    """Bad input that the user can put right: one line per fault, exit code 2.

    Each line names the key or file, the value, and what is allowed, for example
    ``adapter.layers: 'last:40' asks for 40 layers, but smollm2_135m has 30. Use last:30 or fewer.``
    """

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class Cancelled(KeyboardInterrupt):
    """Not an ``Exception``: Hydra and other libraries would take it for the failure of one job and go on.

    The user or the system (Ctrl-C, SIGTERM) asked the run to stop."""


def unwritable(error: OSError) -> str | None:
    """One line for an output folder that is read-only, full or not a folder; None for any other error."""
    import errno

    known = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)
    if error.errno not in known:
        return None
    place = error.filename or "the output folder"
    return f"{place}: cannot be written ({error.strerror}); free space, or choose another output_dir or cache_dir."
