"""A tokenizer of the `tokenizers` library: ids and texts of threads whose model was trained elsewhere, and the chat
template that its prompts are written in, where it has one.

Texts are encoded and decoded as they stand behind a line break: many tokenizers put a space before the first word of a
text, and take it off again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from apr.conversation import Message, asked

Render = Callable[[list[dict[str, str]]], str]
"""Messages as text, up to where the assistant's next turn begins."""

_LINE = "\n"
_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template.jinja", "tokenizer.model", "vocab.json", "merges.txt", "generation_config.json"),
)
"""What a directory says of its tokenizer."""
_BROKEN = "\ufffd"
"""What a character stands for of which only some bytes are there."""
_TAG = re.compile(r"</?[A-Za-z][\w-]*/?>", re.ASCII)
_MARKS = {"<s>", "</s>", "<pad>", "<unk>", "<mask>"}
"""Special tokens that look like tags and are none."""


class ForeignTokenizer:
    """What a thread is written in, token by token."""

    def __init__(
        self,
        tokenizer: Any,
        begin: str | None,
        end: str,
        render: Render | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        """`begin` and `end` are the special tokens; ValueError if they are none. `files` are those that it was read
        from, by name."""
        self._tokenizer = tokenizer
        self._files = dict(files or {})
        self.begin = begin
        marks = {mark: tokenizer.token_to_id(mark) for mark in (begin, end) if mark is not None}
        for mark, id_ in marks.items():
            if id_ is None:
                raise ValueError(f"the tokenizer has no {mark!r}")
        self.bos: int | None = None if begin is None else marks[begin]
        self.eos: int = marks[end]
        self.pad: int = self.eos
        """What fills rows on their right, where nothing looks."""
        self.vocab_size: int = tokenizer.get_vocab_size()
        added = tokenizer.get_added_tokens_decoder()
        special = {id_: token.content for id_, token in added.items() if token.special}
        self._special = {name: id_ for id_, name in special.items()} | marks
        self._names = re.compile(f"({'|'.join(map(re.escape, sorted(self._special, key=len, reverse=True)))})")
        # A tag that a model was given a token for says something.
        self._silent = {id_ for id_, name in special.items() if not _TAG.fullmatch(name) or name in _MARKS}
        self._silent |= set(marks.values())
        # Of its own: a tokenizer may be asked from several threads.
        self._plain = deepcopy(tokenizer)
        self._plain.encode_special_tokens = True
        self._line: list[int] = tokenizer.encode(_LINE, add_special_tokens=False).ids
        self._line_text: str = tokenizer.decode(self._line)
        self._render = render

    @classmethod
    def read(cls, directory: Path) -> ForeignTokenizer:
        """The tokenizer of a Hugging Face directory. ValueError or OSError if it has none."""
        from tokenizers import Tokenizer

        path = directory / "tokenizer.json"
        if path.is_file():
            # A bare Exception is all that the library raises.
            try:
                tokenizer = Tokenizer.from_file(str(path))
            except Exception as error:
                raise ValueError(f"{path} is no tokenizer: {error}") from None
        else:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(directory).backend_tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()
        begin, end = (_mark(directory, tokenizer, name) for name in ("bos", "eos"))
        if end is None:
            raise ValueError(f"{directory} does not say which token is eos_token")
        files = {name: (directory / name).read_bytes() for name in _FILES if (directory / name).is_file()}
        return cls(tokenizer, begin, end, _template(directory), files)

    def to_json(self) -> str:
        """As a `tokenizer.json`."""
        text: str = self._tokenizer.to_str()
        return text

    def save(self, directory: Path) -> None:
        """Write the files that it was read from into another directory."""
        for name, content in {"tokenizer.json": self.to_json().encode(), **self._files}.items():
            (directory / name).write_bytes(content)

    def open(self, prompt: str) -> list[int]:
        """The ids of a text that a thread begins with: the begin token is written out, as in the authors' training
        texts, and added once more by tokenizers that do so."""
        ids: list[int] = self._tokenizer.encode((self.begin or "") + prompt).ids
        # Some end every text as well; a prompt goes on.
        return ids[:-1] if ids and ids[-1] == self.eos else ids

    @property
    def special_names(self) -> Collection[str]:
        """What in a text would be read as a special token."""
        return self._special.keys()

    @property
    def chats(self) -> bool:
        """Whether prompts are turns of a conversation."""
        return self._render is not None

    def ask(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a conversation up to where the next answer begins; where there is no template, of the one
        message's own line. Names of special tokens in messages are text. ValueError for a conversation without a
        template."""
        if self._render is None:
            begin = [] if self.bos is None else [self.bos]
            return begin + self.encode(f"{asked(tuple(messages))}\n", special=False)
        places = [_place(place) for place in range(len(messages))]
        turns = [{"role": turn.role, "content": place} for turn, place in zip(messages, places, strict=True)]
        return self._filled(
            self._render(turns), {place: turn.content for place, turn in zip(places, messages, strict=True)}
        )

    def reply(self, text: str, ended: bool) -> list[int]:
        """The ids of what a conversation goes on with behind an answer: the user's next turn, up to where the next
        answer begins. `ended`: the end token stands there already."""
        if self._render is None:
            return self.encode(f"\n{text}\n", special=False)
        roles = ("user", "assistant", "user")
        whole = self._render([{"role": role, "content": _place(place)} for place, role in enumerate(roles)])
        rest = whole.partition(_place(1))[2]
        if ended:
            rest = rest.lstrip().removeprefix(self._tokenizer.id_to_token(self.eos))
        return self._filled(rest, {_place(2): text})

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """The ids of text within a thread. Not `special`: the names of special tokens are text like any other."""
        if not special:
            return self._encode(text)
        # By itself: many tokenizers put a space behind a special token, too.
        pieces = self._names.split(text)
        ids = self._encode(pieces[0])
        for name, piece in zip(pieces[1::2], pieces[2::2], strict=True):
            ids += [self._special[name], *self._encode(piece)]
        return ids

    def _encode(self, text: str) -> list[int]:
        if not text:
            return []
        ids: list[int] = self._plain.encode(_LINE + text, add_special_tokens=False).ids
        if ids[: len(self._line)] == self._line:
            return ids[len(self._line) :]
        alone: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        return alone

    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str:
        """The text of ids, without special tokens that are no tags if `skip_special`; a character that is cut at its
        end is not in it."""
        kept = [i for i in ids if i not in self._silent] if skip_special else list(ids)
        begins = bool(ids) and ids[0] in self._silent
        before, cut = ([], 0) if begins else (self._line, len(self._line_text))
        text: str = self._tokenizer.decode([*before, *kept], skip_special_tokens=False)
        return text[cut:].rstrip(_BROKEN)

    def _filled(self, text: str, contents: Mapping[str, str]) -> list[int]:
        """A template's own text as it stands, with what stands for messages filled in as text of others. ValueError
        if one of them is nowhere."""
        pieces = re.split(f"({'|'.join(contents)})", text)
        if missing := contents.keys() - set(pieces[1::2]):
            raise ValueError(f"the chat template leaves out {len(missing)} of {len(contents)} messages")
        ids = self.encode(pieces[0])
        for place, after in zip(pieces[1::2], pieces[2::2], strict=True):
            ids += self.encode(contents[place], special=False) + self.encode(after)
        return ids


def _place(number: int) -> str:
    """Stands for a message in a template. Of letters and digits: no template takes those away."""
    return f"APRPLACE{number}Z"


def _mark(directory: Path, tokenizer: Any, name: str) -> str | None:
    """The begin or the end token, as the directory's files name it."""
    mark = _setting(directory / "tokenizer_config.json", f"{name}_token")
    if isinstance(mark, dict):
        mark = mark.get("content")
    if mark is None:
        id_ = _setting(directory / "config.json", f"{name}_token_id")
        id_ = id_[0] if isinstance(id_, list) and id_ else id_
        mark = tokenizer.id_to_token(id_) if isinstance(id_, int) and 0 <= id_ < 1 << 32 else None
    return mark if isinstance(mark, str) else None


def _template(directory: Path) -> Render | None:
    """The directory's chat template. ValueError if it has one that cannot be used."""
    if not (directory / "chat_template.jinja").is_file() and not _setting(
        directory / "tokenizer_config.json", "chat_template"
    ):
        return None
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)

    def render(messages: list[dict[str, str]]) -> str:
        # A template is code of others, and raises what it likes.
        try:
            text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:
            raise ValueError(f"the chat template of {directory} refuses a plain conversation: {error}") from None
        return text

    return render


def _setting(path: Path, name: str) -> Any:
    if not path.is_file():
        return None
    values = json.loads(path.read_text("utf-8"))
    return values.get(name) if isinstance(values, dict) else None
