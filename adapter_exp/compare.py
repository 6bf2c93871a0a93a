"""Compare runs: a report from their records and predictions alone.

python -m adapter_exp.compare multirun/SWEEP [outputs/RUN ...]
python -m adapter_exp.compare multirun/SWEEP --lang ru --output report/      # Markdown, HTML, CSV and plots
python -m adapter_exp.compare multirun/SWEEP --format csv --output runs.csv
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adapter_exp.errors import UserError, unwritable

if TYPE_CHECKING:
    from adapter_exp.comparison.model import Comparison
    from adapter_exp.report.document import Document

FORMATS = ("text", "md", "html", "csv")
TEXT_WIDTHS = (80, 200)
FILE_WIDTH = 160
EXIT_USER_ERROR = 2
EXIT_CANCELLED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 0 ok, 2 bad input, 130 cancelled."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a sign gets a question mark
    try:
        _check(options)
        comparison = _compare(options.runs, options.resamples, options.seed)
        _show(comparison, options)
        sys.stdout.flush()
    except UserError as error:
        return _stop(*error.faults)
    except BrokenPipeError:  # the reader (head, less) has seen enough; Python must not flush into the closed pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        return _stop(unwritable(error) or f"{error.filename or 'a file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        print("cancelled", file=sys.stderr)  # noqa: T201 - the terminal is the interface
        return EXIT_CANCELLED
    return 0


def _stop(*faults: str) -> int:
    from adapter_exp.report.document import plain

    for fault in faults:
        print(f"error: {plain(fault)}", file=sys.stderr)  # noqa: T201 - the terminal is the interface
    return EXIT_USER_ERROR


def write_report(comparison: Comparison, folder: Path, language: str = "en") -> list[Path]:
    """Write the whole report into ``folder``: report.md, report.html, runs.csv, pairs.csv and plots/*.png.

    Returns:
        the files written.

    Raises:
        UserError: for a language other than en or ru.
        OSError: if the folder cannot be written.
    """
    from adapter_exp.files import write_text_atomic
    from adapter_exp.report.comparison import build_document
    from adapter_exp.report.render_csv import pairs_csv, runs_csv
    from adapter_exp.report.render_html import html
    from adapter_exp.report.render_markdown import markdown

    document = build_document(comparison, language)
    folder.mkdir(parents=True, exist_ok=True)  # before drawing: a folder that cannot be made is told at once
    pictures = _draw(document)
    links, written = _write_plots(pictures, folder)
    texts = {
        "report.md": markdown(document, links),
        "report.html": html(document, pictures),
        "runs.csv": runs_csv(comparison),
        "pairs.csv": pairs_csv(comparison),
    }
    for name, text in texts.items():
        write_text_atomic(folder / name, text)
    return [*(folder / name for name in texts), *written]


def _compare(paths: Sequence[Path], resamples: int, seed: int) -> Comparison:
    from adapter_exp.comparison.compare import compare_runs
    from adapter_exp.comparison.runs import read_runs

    runs, refused = read_runs(paths)
    return compare_runs(runs, refused, resamples=resamples, seed=seed)


def _show(comparison: Comparison, options: argparse.Namespace) -> None:
    """Print the report, or write it to ``--output``."""
    place: Path | None = options.output
    if place is None:
        _print(comparison, options.format or "text", options.lang)
        return
    if options.format is None and place.suffix == "":
        written = write_report(comparison, place, options.lang)
    else:
        shape = options.format or place.suffix.removeprefix(".").replace("txt", "text")
        written = _write(comparison, shape, options.lang, place)
    for path in written:
        print(path)  # noqa: T201 - the terminal is the interface


def _print(comparison: Comparison, shape: str, language: str) -> None:
    if shape != "text":
        sys.stdout.write(_rendered(comparison, shape, language)[0])
        return
    from rich.console import Console

    from adapter_exp.report.comparison import build_document
    from adapter_exp.report.render_text import print_document

    console = Console(highlight=False)
    wanted = console.width if console.is_terminal else FILE_WIDTH
    console.width = min(max(wanted, TEXT_WIDTHS[0]), TEXT_WIDTHS[1])
    print_document(build_document(comparison, language), console)


def _write(comparison: Comparison, shape: str, language: str, place: Path) -> list[Path]:
    """One format into a file, or into a folder under its usual name; the plots go beside Markdown."""
    from adapter_exp.files import write_text_atomic

    if place.is_dir() or place.suffix == "":
        place /= {"csv": "runs.csv", "text": "report.txt"}.get(shape, f"report.{shape}")
    place.parent.mkdir(parents=True, exist_ok=True)
    text, plots = _rendered(comparison, shape, language, beside=place.parent)
    write_text_atomic(place, text)
    return [place, *plots]


def _rendered(comparison: Comparison, shape: str, language: str, beside: Path | None = None) -> tuple[str, list[Path]]:
    """The report in one format, and the plots written for it into the folder ``beside``, where Markdown links them."""
    from adapter_exp.report.comparison import build_document
    from adapter_exp.report.render_csv import runs_csv
    from adapter_exp.report.render_html import html
    from adapter_exp.report.render_markdown import markdown

    if shape == "csv":
        return runs_csv(comparison), []
    document = build_document(comparison, language)
    if shape == "md":
        links, plots = _write_plots(_draw(document), beside) if beside else ({}, [])
        return markdown(document, links), plots
    return html(document, _draw(document)) if shape == "html" else _as_text(document), []


def _as_text(document: Document) -> str:
    from rich.console import Console

    from adapter_exp.report.render_text import print_document

    buffer = io.StringIO()
    print_document(document, Console(file=buffer, width=FILE_WIDTH, highlight=False))
    return buffer.getvalue()


def _draw(document: Document) -> dict[str, bytes]:
    """PNG of each figure, by its name."""
    from adapter_exp.report.canvas import png

    return {figure.name: png(figure.draw()) for figure in document.figures()}


def _write_plots(pictures: dict[str, bytes], folder: Path) -> tuple[dict[str, str], list[Path]]:
    """The files, and how a text in ``folder`` links them."""
    from adapter_exp.report.plots import PLOT_FOLDER

    written = []
    for name, data in pictures.items():
        path = folder / PLOT_FOLDER / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        written.append(path)
    return {name: f"{PLOT_FOLDER}/{name}.png" for name in pictures}, written


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m adapter_exp.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="FOLDER", help="a run, a sweep, or a folder of runs")
    add("--lang", default="en", metavar="en|ru", help="language of the report (default: en)")
    add("--format", metavar="|".join(FORMATS), help="default: text, or by the ending of --output")
    add("--output", type=Path, metavar="PATH", help="a file, or a folder (without --format: for everything)")
    add("--resamples", type=int, default=10_000, help="bootstrap draws and permutations (default: 10000)")
    add("--seed", type=int, default=0, help="of the draws (default: 0)")
    return parser


def _check(options: argparse.Namespace) -> None:
    from adapter_exp.report.texts import texts

    faults: list[str] = []
    try:
        texts(options.lang)
    except UserError as error:
        faults += error.faults
    if options.format is not None and options.format not in FORMATS:
        faults.append(f"--format: '{options.format}' is unknown; use one of: {', '.join(FORMATS)}.")
    if options.resamples < 100:
        faults.append(f"--resamples: {options.resamples} is too few for an interval; use 100 or more.")
    if options.seed < 0:
        faults.append(f"--seed: {options.seed} is below 0.")
    place: Path | None = options.output
    if place is not None and options.format is None and place.suffix not in ("", ".md", ".html", ".csv", ".txt"):
        faults.append(f"--output: '{place}' names no format; end it in .md, .html, .csv or .txt, or give --format.")
    if faults:
        raise UserError(*faults)


if __name__ == "__main__":
    sys.exit(main())
