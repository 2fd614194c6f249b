"""Plain text with tags: the language of tasks that bring none of their own.

A thread spawns with `<spawn>`, a `<child>` around every prompt and `</spawn>`, and waits there. Behind that it is
given a `<join>` with a line for each child, in the order of the spawn: its `<result>`, `<none/>` or `<cancelled/>`. It
ends with an `<answer>` or without one; nothing that it wrote is taken back. A prompt and a join end with a line break.

Tags are read from the text, whatever tokens spell them. So text of others (prompts, results) is put in with its tags
broken by a space behind their `<`, and forges none; a child's prompt that a model wrote may hold no tag. The names of
the special tokens are text like any other.

`InheritingTags` is the same, but for what a child begins with: all that its parent holds, and its own `<child>` again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from apr import _core
from apr.conversation import Prompt, asked
from apr.languages.markup import Marked, Markup
from apr.task import LineKind, Method
from apr.threads.language import Action, Child, Done, Ids, Language, Malformed, Replace, Resumption, Spawn

SPAWN, SPAWN_END = "<spawn>", "</spawn>"
CHILD, CHILD_END = "<child>", "</child>"
JOIN, JOIN_END = "<join>", "</join>"
RESULT, RESULT_END = "<result>", "</result>"
NONE, CANCELLED = "<none/>", "<cancelled/>"
ANSWER, ANSWER_END = "<answer>", "</answer>"
TAGS = (
    *(SPAWN, SPAWN_END, CHILD, CHILD_END, JOIN, JOIN_END),
    *(RESULT, RESULT_END, NONE, CANCELLED, ANSWER, ANSWER_END),
)

_KINDS: dict[str, LineKind] = {
    **dict.fromkeys((SPAWN, SPAWN_END, CHILD, CHILD_END), "spawn"),
    **dict.fromkeys((JOIN, JOIN_END, RESULT, RESULT_END, NONE, CANCELLED), "join"),
    **dict.fromkeys((ANSWER, ANSWER_END), "found"),
}
_TAG = re.compile("|".join(map(re.escape, TAGS)))
_GAP = re.compile(r"\s*")


def vocabulary(phrases: Sequence[str] = ()) -> _core.Tokenizer:
    """The tokenizer of a new model: a token for every tag, every phrase and every character. ValueError for what can be
    no phrase."""
    return _core.Tokenizer.of([*TAGS, *phrases])


def plain(text: str) -> str:
    """Text that holds no tag: those in it are broken by a space."""
    return _TAG.sub(lambda tag: f"< {tag[0][1:]}", text)


class Tags:
    """The language, for one method and one tokenizer. A serial method spawns nothing."""

    name = "tags"

    def __init__(self, method: Method = "apr", tokenizer: _core.Tokenizer | None = None) -> None:
        self.method = method
        self.tokenizer = vocabulary() if tokenizer is None else tokenizer
        missing = [tag for tag in TAGS if self.tokenizer.token_id(tag) is None]
        if missing:
            raise ValueError(f"the tokenizer has no token of its own for {', '.join(missing)}")
        self._spawn_open, self._spawn_end, self._join_open = map(self._token, (SPAWN, SPAWN_END, JOIN))
        self.stop_token_ids: Ids = (self.tokenizer.eos,)
        if method == "apr":
            self.stop_token_ids += (self._spawn_end, self._join_open)

    @property
    def vocab_size(self) -> int:
        """Token ids that have a text."""
        size: int = self.tokenizer.vocab_size
        return size

    @property
    def spawn_token(self) -> int:
        return self._spawn_open

    def _token(self, tag: str) -> int:
        (token_id,) = self.encode(tag)
        return token_id

    def open(self, prompt: Prompt) -> Ids:
        return (self.tokenizer.bos, *self.encode(plain(asked(prompt)) + "\n"))

    def text(self, token_ids: Sequence[int]) -> str:
        # A model's vocabulary may be padded; an id that no text has stands for no text.
        known = self.tokenizer.vocab_size
        return self.tokenizer.decode([i for i in token_ids if 0 <= i < known], skip_special=True, whole=False)

    def action(self, token_ids: Sequence[int], level: int) -> Action:
        if self.method != "apr":
            return Done()
        if token_ids[-1] == self._join_open:
            # Where a model may go on with a join, it means to spawn: joins are given.
            return Replace(Resumption(len(token_ids) - 1, (self._spawn_open,)))
        if token_ids[-1] != self._spawn_end:
            return Done()
        try:
            prompts = _prompts(self.text(token_ids))
        except ValueError as error:
            return Malformed(str(error))
        return Spawn(tuple(self.child(token_ids, prompt) for prompt in prompts))

    def child(self, token_ids: Sequence[int], prompt: str) -> Child:
        """What a child with this prompt, which holds no tag, begins with, if its parent holds these tokens."""
        return Child(self.open(prompt), prompt)

    def join(
        self, token_ids: Sequence[int], results: Sequence[str | None], cancelled: Collection[int], level: int
    ) -> Resumption:
        return Resumption(len(token_ids), self.encode(_joined(results, cancelled)))

    def settled(self, text: str) -> int:
        replaced = self.method == "apr" and text.endswith(JOIN)
        return len(text) - len(JOIN) * replaced

    def claim(self, text: str, begin: int = 0, depth: int = 0) -> str | None:
        return _answer(text)

    def line_kind(self, line: str) -> LineKind | None:
        found = _TAG.search(line)
        return None if found is None else _KINDS[found[0]]

    def encode(self, text: str) -> Ids:
        return tuple(self.tokenizer.encode(text, specials=False))

    def spawn(self, prompts: Sequence[str]) -> Ids:
        if self.method != "apr":
            raise ValueError(f"a search by {self.method} spawns nothing")
        return self.encode(_spawn([plain(prompt) for prompt in prompts]))

    def end(self, answer: str | None) -> Ids:
        written = "" if answer is None or not answer.strip() else _concluded(plain(answer.strip()))
        return (*self.encode(written), self.tokenizer.eos)


class InheritingTags(Tags):
    """Tags whose children begin with all that their parent holds."""

    name = "inheriting-tags"

    def child(self, token_ids: Sequence[int], prompt: str) -> Child:
        return Child((*token_ids, *self.encode(_begun(prompt))), prompt, len(token_ids))


def open_tags(directory: Path | None, method: Method) -> Language:
    """The language over a checkpoint's tokenizer: one with a token for every tag, or any that spells them. ValueError
    or OSError if it has none."""
    return _opened(Tags, MARKUP, directory, method)


def open_inheriting_tags(directory: Path | None, method: Method) -> Language:
    """The same of the language whose children inherit."""
    return _opened(InheritingTags, INHERITING, directory, method)


def _opened(tags: type[Tags], markup: Markup, directory: Path | None, method: Method) -> Language:
    if directory is None:
        return tags(method)
    try:
        return tags(method, _core.Tokenizer.from_json((directory / "tokenizer.json").read_text(encoding="utf-8")))
    except (ValueError, FileNotFoundError):
        from apr.tokenizer import ForeignTokenizer

        return Marked(markup, method, ForeignTokenizer.read(directory))


def _spawn(prompts: Sequence[str]) -> str:
    if not prompts or not all(map(str.strip, prompts)):
        raise ValueError("a spawn needs children, and every child a prompt")
    return "\n".join((SPAWN, *map(_child, prompts), SPAWN_END))


def _child(prompt: str) -> str:
    return f"{CHILD}{prompt}{CHILD_END}"


def _begun(prompt: str) -> str:
    """What a child that inherits is told behind its parent's spawn: which of the children it is."""
    return f"\n{_child(prompt)}\n"


def _concluded(answer: str) -> str:
    return f"{ANSWER}{answer}{ANSWER_END}"


def _joined(results: Sequence[str | None], cancelled: Collection[int]) -> str:
    lines = [CANCELLED if i in cancelled else _result(result) for i, result in enumerate(results)]
    return "\n".join(("", JOIN, *lines, JOIN_END, ""))


def _answer(text: str) -> str | None:
    begin = text.rfind(ANSWER, 0, max(text.rfind(ANSWER_END), 0))
    if begin < 0:
        return None
    return text[begin + len(ANSWER) : text.find(ANSWER_END, begin)].strip() or None


def _result(result: str | None) -> str:
    return NONE if result is None or not result.strip() else RESULT + plain(result.strip()) + RESULT_END


def _prompts(text: str) -> list[str]:
    """The prompts of the spawn that a text ends in. ValueError, in words, if it cannot be read."""
    end = len(text) - len(SPAWN_END)
    after = text.rfind(SPAWN_END, 0, end) + 1
    begun = text.count(SPAWN, after, end)
    if begun != 1:
        raise ValueError("a spawn begins inside another" if begun else "a spawn ends but never begins")
    at = text.index(SPAWN, after) + len(SPAWN)
    prompts: list[str] = []
    while (at := _skip(text, at)) < end:
        if not text.startswith(CHILD, at):
            raise ValueError("a spawn holds more than its children")
        begin = at + len(CHILD)
        at = text.find(CHILD_END, begin, end)
        if at < 0:
            raise ValueError("a child is never closed")
        prompt = text[begin:at]
        if tag := _TAG.search(prompt):
            raise ValueError(f"a child's prompt holds {tag[0]}")
        if not prompt.strip():
            raise ValueError("a child has no prompt")
        prompts.append(prompt)
        at += len(CHILD_END)
    if not prompts:
        raise ValueError("a spawn has no children")
    return prompts


def _skip(text: str, at: int) -> int:
    gap = _GAP.match(text, at)
    return at if gap is None else gap.end()


MARKUP = Markup(
    name="tags",
    spawn=SPAWN_END,
    children=_prompts,
    words=TAGS,
    join=_joined,
    result=_answer,
    answer=_answer,
    spawns=_spawn,
    ends=_concluded,
    refused=(JOIN, SPAWN),
    system=(
        f"To have parts worked out at the same time, write {SPAWN}, {CHILD}a question{CHILD_END} for each part and "
        f"{SPAWN_END}. The results are given to you in {JOIN}. End with {ANSWER}your answer{ANSWER_END}."
    ),
)
"""The same over tokenizers that spell the tags."""
INHERITING = replace(MARKUP, name=InheritingTags.name, inherits=True, header=lambda place, said, parent: _begun(said))
"""And the same with children that inherit."""
