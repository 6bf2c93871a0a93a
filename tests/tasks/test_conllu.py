"""The CoNLL-U reader: real layout in, one actionable line out for each kind of damage."""

from __future__ import annotations

import gzip
import time
import tracemalloc
from pathlib import Path

import pytest
from task_samples import ANNA, sentence, task_config

from adapter_exp.errors import UserError
from adapter_exp.tasks.readers.conllu import Span, read_blocks
from adapter_exp.tasks.registry import build_task

TYPES = ("PER", "LOC", "ORG")


def parse(path: Path):
    return [block.parse(TYPES) for block in read_blocks(path)]


def write(tmp_path: Path, text: str | bytes, name: str = "data.conllu") -> Path:
    path = tmp_path / name
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["data.conllu", "data.conllu.gz"])
def test_reads_documents_sentences_and_spans(tmp_path, name):
    (found,) = parse(write(tmp_path, ANNA, name))
    assert (found.id, found.document, found.text) == ("0_0", "0", "Анна Зимина живёт в Туле.")
    assert found.spans == (Span("PER", 0, 11, "Анна Зимина"), Span("LOC", 20, 24, "Туле"))


@pytest.mark.parametrize(
    "variant",
    [ANNA.rstrip("\n"), ANNA.replace("\n", "\r\n"), "\ufeff" + ANNA, "\n\n" + ANNA + "\n\n", "# global = x\n" + ANNA],
    ids=["no final line feed", "Windows line ends", "byte-order mark", "blank lines", "comment"],
)
def test_harmless_variants(tmp_path, variant):
    assert parse(write(tmp_path, variant)) == parse(write(tmp_path, ANNA, "plain.conllu"))


def test_tag_may_stand_among_other_fields(tmp_path):
    assert parse(write(tmp_path, ANNA.replace("Tag=", "SpaceAfter=No|Tag=")))[0].spans[0].text == "Анна Зимина"


def test_span_text_is_taken_from_the_sentence(tmp_path):
    text = sentence(
        "РИА-Новости  и «Маяк»",
        ("РИА", "B-ORG"),
        ("-", "I-ORG"),
        ("Новости", "I-ORG"),
        ("и", "O"),
        ("«", "O"),
        ("Маяк", "B-ORG"),
        ("»", "O"),
    )
    assert [span.text for span in parse(write(tmp_path, text))[0].spans] == ["РИА-Новости", "Маяк"]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (("I-PER", "I-PER", "O"), ["PER:А Б"]),
        (("B-PER", "B-PER", "I-PER"), ["PER:А", "PER:Б В"]),
        (("B-PER", "I-LOC", "I-LOC"), ["PER:А", "LOC:Б В"]),
        (("B-PER", "O", "I-PER"), ["PER:А", "PER:В"]),
    ],
)
def test_inside_without_beginning_opens_a_span(tmp_path, tags, expected):
    (found,) = parse(write(tmp_path, sentence("А Б В", *zip("АБВ", tags, strict=True))))
    assert [f"{s.type}:{s.text}" for s in found.spans] == expected


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.replace("\tTag=O", "", 1), r"data.conllu:6: 9 tab-separated columns instead of 10"),
        (lambda t: t.replace("Tag=O", "_", 1), r"data.conllu:6: no 'Tag=...' in the last column \('_'\)"),
        (lambda t: t.replace("B-LOC", "B-GPE"), r"data.conllu:8: unknown label 'Tag=B-GPE'.*B-PER, I-PER"),
        (lambda t: t.replace("B-LOC", "LOC"), r"data.conllu:8: unknown label 'Tag=LOC'"),
        (lambda t: t.replace("Tag=B-LOC", "Tag="), r"data.conllu:8: unknown label 'Tag='"),
        (lambda t: t.replace("# text", "# words"), r"data.conllu:4: the sentence has no '# text = ...'"),
        (lambda t: t.replace("# newdoc id", "# doc"), r"data.conllu:4: no '# newdoc' line above"),
        (lambda t: t.replace("5\tТуле", "5\tКазани"), r"data.conllu:8: token 'Казани' does not come next"),
        (lambda t: t.replace("3\tживёт", "3-4\tживёт"), r"data.conllu:6: token id '3-4' is not a number"),
        (lambda t: "# nothing here\n", r"data.conllu: 1 lines and no sentence"),
        (lambda t: "", r"data.conllu: the file is empty"),
    ],
)
def test_each_fault_names_file_and_line(tmp_path, damage, message):
    path = write(tmp_path, damage(ANNA))
    with pytest.raises(UserError, match=message) as caught:
        parse(path)
    assert len(caught.value.faults) == 1
    assert "\n" not in str(caught.value)


def test_documents_without_a_name_stay_apart(tmp_path):
    path = write(tmp_path, (ANNA * 2).replace("# newdoc id = 0", "# newdoc"))
    assert [found.document for found in parse(path)] == ["line 1", "line 11"]


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"none.conllu: there is no such file"):
        parse(tmp_path / "none.conllu")


def test_folder_instead_of_file(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        parse(tmp_path)


def test_wrong_encoding_names_line_and_byte(tmp_path):
    with pytest.raises(UserError, match=r"data.conllu:3: not UTF-8: byte 0xc0 at position 10 of the line.*iconv"):
        parse(write(tmp_path, ANNA.encode("cp1251")))


def test_truncated_gzip(tmp_path):
    path = write(
        tmp_path, "".join(ANNA.replace("# newdoc id = 0", f"# newdoc id = {i}") for i in range(500)), "d.conllu.gz"
    )
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"d.conllu.gz: damaged gzip after line \d+"):
        parse(path)


def test_flipped_byte_in_gzip(tmp_path):
    path = write(tmp_path, ANNA * 50, "d.conllu.gz")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"d\.conllu\.gz"):
        parse(path)


def test_plain_text_named_gz(tmp_path):
    path = tmp_path / "d.conllu.gz"
    path.write_text(ANNA, encoding="utf-8")
    with pytest.raises(UserError, match=r"damaged gzip after line 0 \(Not a gzipped file"):
        parse(path)


def many_documents(path: Path, documents: int, sentences: int = 4) -> Path:
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        for doc in range(documents):
            for i in range(sentences):
                head = f"# newdoc id = {doc}\n" if i == 0 else ""
                text = f"Пост {doc} {i} в Туле"
                rows = sentence(text, ("Пост", "O"), (str(doc), "O"), (str(i), "O"), ("в", "O"), ("Туле", "B-LOC"))
                file.write(head + rows.split("\n", 1)[1].replace("_0\n", f"_{i}\n", 1))
    return path


def nerus(path: Path, **changes):
    return build_task(task_config("nerus", path=str(path), **changes))


def test_documents_never_move_between_splits(tmp_path):
    """Neither other sizes nor other documents in the file move one; no document is in two splits."""
    path, longer = many_documents(tmp_path / "a.conllu.gz", 60), many_documents(tmp_path / "b.conllu.gz", 120)
    place: dict[str, str] = {}
    for task in (nerus(path, max_train=None), nerus(path, max_train=10, max_eval=5), nerus(longer, max_train=None)):
        for split in ("train", "validation", "test"):
            for example in task.load(split):
                assert place.setdefault(example.group, split) == split
    shares = [list(place.values()).count(split) for split in ("train", "validation", "test")]
    assert shares[0] > 80
    assert min(shares) >= 3


def test_a_sentence_that_documents_share_is_in_one_split_of_a_file(tmp_path):
    shared = sentence("Об этом сообщили в Туле", *[(w, "O") for w in ["Об", "этом", "сообщили", "в", "Туле"]])
    text = "".join(shared.replace("# newdoc id = 0", f"# newdoc id = {doc}") for doc in range(60))
    path = many_documents(tmp_path / "a.conllu.gz", 60)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        text += file.read().replace("# newdoc id = ", "# newdoc id = 9")
    path.write_bytes(gzip.compress(text.encode()))
    task = nerus(path, max_train=None, max_validation=None, max_eval=None)
    found = [e.text for split in ("train", "validation", "test") for e in task.load(split)]
    assert found.count("Об этом сообщили в Туле") == 1
    assert "Об этом сообщили в Туле" in {e.text for e in task.load("test")}
    assert len(found) == len(set(found))


def test_another_split_seed_moves_documents(tmp_path):
    path = many_documents(tmp_path / "a.conllu.gz", 100, 1)
    tests = [{e.group for e in nerus(path, split_seed=seed).load("test")} for seed in (0, 1)]
    assert tests[0] != tests[1]


def test_folder_of_splits(tmp_path):
    for split in ("train", "validation"):
        write(tmp_path, ANNA, f"{split}.conllu")
    task = nerus(tmp_path)
    assert len(task.load("train")) == len(task.load("validation")) == 1
    with pytest.raises(UserError, match=r"no test.conllu or test.conllu.gz in this folder"):
        task.load("test")


def test_too_few_documents_for_a_split(tmp_path):
    task = nerus(write(tmp_path, ANNA))
    with pytest.raises(UserError, match=r"no sentence for the (train|validation|test) split") as caught:
        for split in ("train", "validation", "test"):
            task.load(split)
    assert "80/10/10 by document" in str(caught.value)


def test_duplicates_are_dropped_and_counted(tmp_path):
    write(tmp_path, ANNA * 3 + sentence("Снег.", ("Снег", "O"), (".", "O"), doc="1"), "train.conllu")
    task = nerus(tmp_path)
    assert len(task.load("train")) == 2
    assert task.duplicates["train"] == 2


def test_length_filter(tmp_path):
    write(tmp_path, ANNA + sentence("Снег.", ("Снег", "O"), (".", "O"), doc="1"), "train.conllu")
    assert [e.text for e in nerus(tmp_path, max_chars=5).load("train")] == ["Снег."]
    assert [e.text for e in nerus(tmp_path, min_chars=6).load("train")] == ["Анна Зимина живёт в Туле."]
    with pytest.raises(UserError, match="check min_chars and max_chars"):
        nerus(tmp_path, max_chars=4).load("train")


@pytest.mark.parametrize("documents", [5_000, pytest.param(50_000, marks=pytest.mark.slow)])
def test_memory_and_time_do_not_grow_with_the_corpus(tmp_path, documents):
    """20,000 (slow: 200,000) sentences through a draw of 160."""
    path = many_documents(tmp_path / "big.conllu.gz", documents)
    task = nerus(path)
    tracemalloc.start()
    start = time.monotonic()
    assert len(task.load("train")) == 160
    duration = time.monotonic() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * 2**20
    assert duration < documents / 500
