"""Messages to token ids: boundaries, end tokens, one beginning-of-sequence token."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_exp.data.rendering import Renderer

plain_text = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="<>|\u241f"), min_size=1, max_size=30)


def renderer(tokenizer, *, chat=True, system="Отвечай", max_length=200):
    return Renderer(tokenizer, system=system, chat=chat, max_length=max_length)


@settings(deadline=None, max_examples=50)
@given(user=plain_text, answer=plain_text, chat=st.booleans())
def test_a_row_is_the_prompt_then_the_answer_then_the_end(tiny_tokenizer, user, answer, chat):
    r = renderer(tiny_tokenizer, chat=chat, max_length=10_000)
    row = r.training_row(user, answer)
    assert row.ids[: row.prompt_tokens] == r.prompt_ids(user)
    assert row.ids[row.prompt_tokens :] == r.answer_ids(user, answer)
    assert row.ids[-1] == r.end_id in r.end_ids
    assert tiny_tokenizer.decode(row.ids[row.prompt_tokens : -1]) == answer
    assert not row.truncated


def test_truncation_keeps_the_prompt_and_says_so(tiny_tokenizer):
    r = renderer(tiny_tokenizer, system="", max_length=30)
    row = r.training_row("abc", "x" * 100)
    assert len(row.ids) == 30
    assert row.truncated
    assert row.ids[: row.prompt_tokens] == r.prompt_ids("abc")


def test_end_token_is_the_templates(tiny_tokenizer):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = tokenizer.chat_template.replace("</s>", "<|system|>")
    r = renderer(tokenizer)
    assert r.end_id == tokenizer.convert_tokens_to_ids("<|system|>")
    assert r.end_ids == {r.end_id, tokenizer.eos_token_id}


def test_a_template_without_system_role_gets_it_in_the_users_message(tiny_tokenizer):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    refuse = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    tokenizer.chat_template = refuse + tokenizer.chat_template
    assert "<|user|>Отвечай\nвопрос</s>" in renderer(tokenizer).prompt_text("вопрос")
    assert "<|system|>Отвечай</s><|user|>вопрос</s>" in renderer(tiny_tokenizer).prompt_text("вопрос")


@pytest.mark.parametrize("template_writes_bos", [True, False])
def test_never_two_beginnings(tiny_tokenizer, template_writes_bos):
    from tokenizers.processors import TemplateProcessing

    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 256), ("</s>", 257)]
    )
    if template_writes_bos:
        tokenizer.chat_template = "<s>" + tokenizer.chat_template
    ids = renderer(tokenizer, chat=template_writes_bos).prompt_ids("привет")
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-1] != tokenizer.eos_token_id


def test_the_date_in_a_template_stands_still(tiny_tokenizer):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = (
        "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "{{ date_string }}" + tokenizer.chat_template
    )
    assert renderer(tokenizer).prompt_text("x").startswith("26 Jul 2024")
