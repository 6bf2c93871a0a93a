"""Numbered lines of a file that may be compressed, damaged or in another encoding."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from adapter_exp.errors import UserError

_BOM = b"\xef\xbb\xbf"


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines of ``path`` (gzip when it ends in ``.gz``) from 1 on, without line ends or byte-order mark, as bytes.

    Raises:
        UserError: if the file is missing, unreadable, empty, or a damaged or truncated gzip.
    """
    number = 0
    try:
        with path.open("rb") as raw:
            # A buffer of our own: iterating GzipFile itself costs a Python call per line.
            stream = io.BufferedReader(gzip.GzipFile(fileobj=raw), 1 << 20) if path.suffix == ".gz" else raw
            for number, line in number_lines(stream):
                yield number, line
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged gzip after line {number} ({error}). Download or compress it again.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from None
    if number == 0:
        raise UserError(f"{path}: the file is empty.")


def number_lines(stream: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines of ``stream`` from 1 on, without line ends or byte-order mark."""
    for number, line in enumerate(stream, start=1):
        yield number, (line.removeprefix(_BOM) if number == 1 else line).rstrip(b"\r\n")


def decode(line: bytes, path: Path, number: int) -> str:
    """``line`` as UTF-8.

    Raises:
        UserError: naming the file, the line and the first byte that is not UTF-8.
    """
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}:{number}: not UTF-8: byte {line[error.start]:#04x} at position {error.start + 1} of the line. "
            "Convert the file, for example with 'iconv -f CP1251 -t UTF-8'."
        ) from None
