"""`tokenizer.json` as other programs read it: the same ids and the same text as the Rust tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import apr
from apr import _core
from conftest import Golden

OURS = apr.Tokenizer()
OWN = _core.Tokenizer.of(["<go>", "</go>", "left of ", "left", "a b", "10", "[(*"])
"""One with phrases of its own."""


class Theirs:
    """The file of a tokenizer of ours, read by a library."""

    def __init__(self, ours: _core.Tokenizer, tokenizer: Any, encode: Any) -> None:
        self.ours, self._tokenizer, self._encode = ours, tokenizer, encode

    def encode(self, text: str) -> list[int]:
        return list(self._encode(text))

    def decode(self, ids: list[int], skip_special: bool) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=skip_special))


def read(ours: _core.Tokenizer, name: str, directory: Path) -> Theirs:
    file = directory / "tokenizer.json"
    file.write_text(ours.to_json())
    library = pytest.importorskip(name)
    if name == "tokenizers":
        plain = library.Tokenizer.from_file(str(file))
        return Theirs(ours, plain, lambda text: plain.encode(text, add_special_tokens=False).ids)
    fast = library.PreTrainedTokenizerFast(
        tokenizer_file=str(file), bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    return Theirs(ours, fast, lambda text: fast.encode(text, add_special_tokens=False))


@pytest.fixture(scope="module", params=["tokenizers", "transformers"])
def theirs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Theirs:
    return read(OURS, request.param, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module", params=["tokenizers", "transformers"])
def their_own(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Theirs:
    return read(OWN, request.param, tmp_path_factory.mktemp("tokenizer"))


def assert_same(theirs: Theirs, text: str) -> None:
    ids = theirs.ours.encode(text)
    assert theirs.encode(text) == ids
    assert theirs.ours.decode(ids) == text
    assert theirs.decode(ids, False) == text
    assert theirs.decode(ids, True) == theirs.ours.decode(ids, skip_special=True)


def golden_texts(golden: Golden) -> Iterator[str]:
    for row in golden("apr_traces.jsonl.gz")[::12]:
        yield from row["trace_dict"]["main_calls"]
        yield from (child["main_calls"][0] for round_ in row["trace_dict"]["sub_calls"] for child in round_)
    yield from (row["trace"] for row in golden("sosp_traces.jsonl.gz")[::10])
    yield from (row["solution"] for row in golden("checks.jsonl.gz")[::20])
    yield from (row["text"] for row in golden("trace_checks.jsonl.gz")[::20])


def test_golden_texts(theirs: Theirs, golden: Golden) -> None:
    texts = list(golden_texts(golden))
    assert len(texts) > 300
    for text in texts:
        assert_same(theirs, text)


PHRASES = [OURS.decode([i]) for i in range(3, OURS.vocab_size - 16)]
PIECE = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(PHRASES),
    st.builds(lambda phrase, a, b: phrase[a : a + b], st.sampled_from(PHRASES), st.integers(0, 20), st.integers(0, 20)),
    st.sampled_from(["<s>", "</s>", "<pad>", "<s", "/s>", "\u2460", "\u246f", "\u0120", "\r\n", "e\u0301"]),
)


@settings(max_examples=300)
@given(text=st.lists(PIECE, max_size=10).map("".join))
@example("\u2460\u2461")
@example("a\u0301\u00e1\ufb01 \U0001f600\x00\x7f")
def test_any_text(theirs: Theirs, text: str) -> None:
    assert_same(theirs, text)


@settings(max_examples=200)
@given(
    text=st.lists(
        PIECE | st.sampled_from(["<go>", "</go>", "left of ", "left o", "a b", "10", "[(*"]), max_size=10
    ).map("".join)
)
@example("<<go><go</go></s>left of left a b100[(*\n")
def test_any_text_with_phrases_of_its_own(their_own: Theirs, text: str) -> None:
    assert_same(their_own, text)
    assert _core.Tokenizer.from_json(OWN.to_json()).encode(text) == OWN.encode(text)


@settings(max_examples=300)
@given(ids=st.lists(st.integers(0, OURS.vocab_size - 1), max_size=30), skip_special=st.booleans())
def test_any_ids_decode_alike(theirs: Theirs, ids: list[int], skip_special: bool) -> None:
    assert theirs.decode(ids, skip_special) == OURS.decode(ids, skip_special=skip_special)


def test_special_tokens() -> None:
    assert (OURS.pad, OURS.bos, OURS.eos) == (0, 1, 2)
    assert OURS.encode("<s></s><pad>") == [1, 2, 0]
    with pytest.raises(ValueError, match="vocabulary"):
        OURS.decode([OURS.vocab_size])
    assert apr.Tokenizer.from_json(OURS.to_json()).to_json() == OURS.to_json()
    with pytest.raises(ValueError, match="not a tokenizer"):
        apr.Tokenizer.from_json("{}")


def test_special_names_can_be_text() -> None:
    plain = OURS.encode("1</s>", specials=False)
    assert plain == [OURS.token_id(c) for c in "1</s>"]
    assert OURS.decode(plain, skip_special=True) == "1</s>"


def test_what_may_yet_become_a_character_is_left_out() -> None:
    halves = OURS.encode("é")
    assert len(halves) == 4
    open_ = [OURS.decode(halves[:count], whole=False) for count in range(5)]
    assert open_ == ["", "", "", "", "é"]
    assert OURS.decode(halves[:3]) == "\ufffd?"


def test_phrases_of_its_own() -> None:
    assert (OWN.pad, OWN.bos, OWN.eos, OWN.token_id("<go>"), OWN.token_id("[(*")) == (0, 1, 2, 13, 19)
    assert OWN.token_id("~") is not None
    assert OWN.vocab_size == 3 + 10 + 7 + 86 + 16
    assert (OWN.state_tokens, OWN.verdict_tokens, OWN.join_end) == ([], [], None)
    for phrase in ("", "a", "a\n", "éé", "a<b", "<s>", "left"):
        with pytest.raises(ValueError, match="can be no phrase"):
            _core.Tokenizer.of(["left", phrase])


def test_lone_surrogates_become_replacement_characters() -> None:
    assert OURS.decode(OURS.encode("a\ud800b")).startswith("a\ufffd")
