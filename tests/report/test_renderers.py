"""Formats: complete, well-formed, nothing from outside, and hostile names are only names."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report.comparison_samples import comparison, configuration, group, metric, ranks, row, task
from rich.cells import cell_len
from rich.console import Console

from adapter_exp.comparison.model import Reason, Refused
from adapter_exp.report.comparison import build_document
from adapter_exp.report.document import Cell, Column, Document, Facts, Paragraph, Section, Table, file_name, plain
from adapter_exp.report.render_csv import pairs_csv, runs_csv
from adapter_exp.report.render_html import html
from adapter_exp.report.render_markdown import escape, markdown
from adapter_exp.report.render_text import print_document

HOSTILE = '<script>alert(1)</script> & "q" | `x` *b* _i_ $y$ [l](http://x.y) \x1b[31m\n# h \u202e'
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Tags(HTMLParser):
    """Checks that tags close in order, and keeps what matters of them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    tags.close()
    assert tags.open == []
    return tags


def text_of(document: Document, width: int) -> str:
    out = io.StringIO()
    print_document(document, Console(file=out, width=width, highlight=False, color_system=None))
    return out.getvalue()


@pytest.fixture(scope="module")
def hostile() -> Document:
    """A comparison in which every name that comes from a record is hostile."""
    names = [f"lora {HOSTILE}", f"mlp {HOSTILE}"]
    made = group(
        [configuration(name, axes={"adapter.r": HOSTILE}) for name in names],
        [task(metric([row(names[0], 0.3), row(names[1], 0.5)], [names[::-1]], name=HOSTILE), name=HOSTILE)],
        facts={"model": HOSTILE, "source": HOSTILE, "data": {HOSTILE: {HOSTILE: {"items": 5, "fingerprint": HOSTILE}}}},
        warnings=(Reason("other_documents", {"task": HOSTILE}),),
    )
    refused = (Refused(Path(HOSTILE), Reason("new_code", {"text": HOSTILE})),)
    return build_document(comparison(made, refused=refused), "en")


def test_the_page_is_well_formed_and_complete():
    document = build_document(ranks(4)[1], "ru")
    tags = parsed(html(document, {one.name: b"png" for one in document.figures()}))
    assert tags.seen[0] == ("html", {"lang": "ru"})
    names = [tag for tag, _ in tags.seen]
    assert names.count("img") == len(document.figures()) == 8
    tables = sum(isinstance(block, Table) for section in document.walk() for block in section.blocks)
    assert names.count("table") == tables > 8
    anchors = {attrs["href"] for tag, attrs in tags.seen if tag == "a"}
    assert anchors == {
        f"#{attrs['id']}" for tag, attrs in tags.seen if tag == "section" and attrs["id"].count("-") == 1
    }
    assert all(attrs["alt"] for tag, attrs in tags.seen if tag == "img")
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in tags.seen


def test_the_page_asks_for_nothing_from_outside(hostile):
    for document in (hostile, build_document(ranks(3)[1], "en")):
        page = html(document, {one.name: b"png" for one in document.figures()})
        links = [
            value
            for _, attrs in parsed(page).seen
            for key, value in attrs.items()
            if key in ("src", "href", "srcset", "action", "data", "background")
        ]
        assert links and all(link.startswith(("#", "data:image/png;base64,")) for link in links)
        style = page[page.index("<style>") : page.index("</style>")]
        assert "url(" not in style and "@import" not in style
        assert not any(tag in ("script", "link", "iframe", "object", "form") for tag, _ in parsed(page).seen)


def test_hostile_names_are_shown_and_do_nothing_in_the_page(hostile):
    tags = parsed(html(hostile, {}))
    shown = "".join(tags.text)
    assert plain(HOSTILE) in shown and "\x1b" not in shown and "\u202e" not in shown
    assert not any(name.startswith("on") for _, attrs in tags.seen for name in attrs)


def test_hostile_names_are_shown_and_do_nothing_in_markdown(hostile):
    text = markdown(hostile)
    assert "<script" not in text.replace("\\<script", "") and "\x1b" not in text
    assert not re.search(r"(?<!\\)\]\(", text), "no link that the report did not make"
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert len(headings) == 1 + sum(1 for _ in hostile.walk())
    width = 0
    for line in text.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert cells in (0, width) or not width, f"a row of {cells - 1} cells in a table of {width - 1}"
        width = cells


def test_hostile_names_are_shown_and_do_nothing_in_the_terminal(hostile):
    text = text_of(hostile, 400)
    assert plain(HOSTILE) in text
    assert set(re.findall(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e]", text)) == {"\n"}


def test_markdown_escapes_what_would_be_markup():
    assert escape("micro_f1 +0.1000 (+5.00%)") == "micro_f1 +0.1000 (+5.00%)", "names and numbers stay readable"
    assert escape("a|b<c>&*d* [e](f) `g` $h$") == "a\\|b\\<c\\>&amp;\\*d\\* \\[e\\](f) \\`g\\` \\$h\\$"
    assert escape("_a_ b_c") == "\\_a\\_ b_c"
    assert escape("# a") == "\\# a" and escape("- a") == "\\- a" and escape("-0.5") == "-0.5"
    assert not re.match(r"\d+[.)]\s", escape("1. a")) and escape("0.3056 b") == "0.3056 b"


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("language", ["en", "ru"])
def test_text_fits_the_terminal_and_no_number_breaks(width, language):
    document = build_document(ranks(12)[1], language)
    text = text_of(document, width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    wide = text_of(document, 500)
    numbers = re.compile(r"\[[-+\d.,% ]+\]|[-+]?\d[\d.\u00a0]*\d%?")
    lost = {found for found in numbers.findall(wide) if found not in text}
    assert lost == set()


def test_a_table_wider_than_the_terminal_is_cut_into_blocks_that_name_their_rows():
    columns = (Column("name", "left", key=True), *(Column(f"metric_number_{n}") for n in range(9)))
    rows = tuple((Cell(f"row {r}"), *(Cell(f"0.{r}{n}00", "[0.0000, 1.0000]") for n in range(9))) for r in range(2))
    text = text_of(Document("t", "en", (Table(columns, rows, "caption"),), ()), 80)
    assert text.count("row 0") == text.count("row 1") > 1 and text.count("caption") == 1
    assert all(f"0.{r}{n}00" in text for r in range(2) for n in range(9))


def test_long_names_wrap_and_numbers_stay():
    long = "lora " + " ".join(f"target_modules_{n}=q_proj,v_proj" for n in range(5))
    names = [long, "mlp"]
    made = group(
        [configuration(name) for name in names],
        [task(metric([row(names[0], 0.3), row(names[1], 0.5)], [names[::-1]]))],
    )
    text = text_of(build_document(comparison(made), "en"), 80)
    assert max(map(cell_len, text.splitlines())) <= 80
    assert "+0.1000 (+50.00%)" in text and "target_modules_4" in text


def test_paragraphs_and_facts_do_not_break_inside_numbers():
    number = "1\u00a0234\u00a0567"
    blocks = (Paragraph("word " * 14 + number), Facts((("label", "word " * 13 + number),)))
    assert text_of(Document("t", "en", (), (Section("s", blocks),)), 80).count(number) == 2


def test_a_table_with_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="row of another length"):
        Table((Column("a"),), ((Cell("1"), Cell("2")),))


def test_csv_has_one_row_per_run_in_full_precision():
    _, made = ranks(3)
    rows = list(csv.DictReader(io.StringIO(runs_csv(made))))
    assert [(one["configuration"], one["seed"]) for one in rows[:4]] == [
        ("lora r=2", "0"), ("lora r=2", "1"), ("lora r=2", "2"), ("lora r=4", "0"),
    ]  # fmt: skip
    assert len(rows) == 9 and rows[3]["config.adapter.r"] == "4"
    expected = made.groups[0].tasks[0].metrics[0].rows[1]
    assert float(rows[3]["configuration.nerus.micro_f1.change"]) == expected.change.value
    assert float(rows[3]["configuration.nerus.micro_f1.p_holm"]) == expected.p_holm
    ends = [rows[3][f"configuration.nerus.micro_f1.relative{end}"] for end in ("", ".low", ".high")]
    assert [float(end) for end in ends] == [expected.relative.value, expected.relative.low, expected.relative.high]
    assert rows[3]["configuration.nerus.micro_f1.test"] == "sign_flip"
    pairs = list(csv.DictReader(io.StringIO(pairs_csv(made))))
    assert len(pairs) == 2 * 3 and {one["task"] for one in pairs} == {"nerus", "terra"}


def test_csv_tells_refused_runs_and_disarms_formulas():
    _, made = ranks(2)
    refused = Refused(Path("multirun/9"), Reason("not_finished", {"status": "failed", "error": "=cmd()", "text": "x"}))
    bad = replace(made, refused=(refused, Refused(Path("=HYPERLINK(1)"), Reason("new", {"text": "@sum"}))))
    rows = list(csv.DictReader(io.StringIO(runs_csv(bad))))
    assert [one["status"] for one in rows] == ["ok"] * 6 + ["refused"] * 2
    assert rows[6]["reason"] == "the run did not end well: failed (=cmd())"
    assert (rows[7]["folder"], rows[7]["reason"]) == ("'=HYPERLINK(1)", "'@sum")


def test_file_names_are_plain():
    assert file_name("adapter.lora.r") == "adapter.lora.r"
    assert file_name("../../etc/passwd") == "etc-passwd" and file_name("задача") == "x"
