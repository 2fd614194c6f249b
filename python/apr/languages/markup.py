"""Ways to fork and join threads in plain text, as data, and the one language that writes any of them.

A `Markup` says what stops a thread, how its children are read from what it wrote, what a child begins with and what of
it goes back. `Marked` is a markup over the tokenizer of a model, whoever trained it: a stop is a text that any tokens
may spell. Decoding stops at each token that may end such a text, and goes on where none ends, so every engine stops at
the same token. Nothing that a thread wrote is taken back: a join is put behind it.

What threads say to each other stands among the markup's own words. So `plain` breaks every word of a markup, and every
name of a special token, in a text of others, which can forge no join, end no block and begin no turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from apr.conversation import Message, Prompt
from apr.task import Method
from apr.threads.language import Action, Child, Done, Ids, Malformed, Replace, Resumption, Spawn
from apr.tokenizer import ForeignTokenizer

Results = Sequence[str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Markup:
    """A way to fork and join. Functions get text as threads wrote it, which may be any."""

    name: str
    spawn: str | None
    """The text at which a thread stops that wants children; None: there is no such text."""
    children: Callable[[str], Sequence[str]]
    """What the parent says to each child, in order, from what it wrote since its last join. ValueError, in words, if
    nobody can read it."""
    words: tuple[str, ...]
    """Texts that mean something here; text of others has none of them."""
    join: Callable[[Results, Collection[int]], str]
    """What is put behind the spawn: of each child its result, None if it has none; the indexes of those that were
    cancelled."""
    inherits: bool = False
    """A child begins with all that its parent holds, and a header; otherwise with a prompt of its own."""
    header: Callable[[int, str, str], str] = lambda place, said, parent: said
    """What child number `place` of a spawn, counted from 0, begins with, if this was said to it and its parent's text
    is that: the header, or the prompt."""
    end: str | None = None
    """The text at which a child stops; None: as every thread, at the end token."""
    result: Callable[[str], str | None] | None = lambda written: written.strip() or None
    """What the parent is told of a child that wrote this, its `end` included; None if that is nothing. No function: all
    of it, with the child's header and its end."""
    answer: Callable[[str], str | None] = lambda written: last_answer(written)
    """The main thread's answer, from all that was written behind its prompt, or behind its last join where joins are
    turns."""
    refused: tuple[str, str] | None = None
    """A text that only joins write, and what stands in its place where a thread writes it by itself."""
    system: str | None = None
    """What a conversation begins with before the main thread's prompt; nothing where the model has no template."""
    child_system: str | None = None
    """And before a child's."""
    turns: bool = False
    """A join is the next turn of a conversation, where the model has any."""
    spawns: Callable[[Sequence[str]], str] | None = None
    """What a thread writes to spawn children with these prompts; None: no teacher's search can be written in it."""
    ends: Callable[[str], str] = lambda answer: answer
    """What a thread writes last, if it has this answer."""
    first: bool = False
    """The main thread begins with a spawn, before it writes anything."""
    nests: bool = True
    """Children may spawn."""
    most: int | None = None
    """Children of one spawn."""
    child_temperature: float | None = None
    """What children sample at; None: as the rollout does."""
    child_tokens: int | None = None
    """Most tokens a child may sample."""


class Marked:
    """The language of a markup, for one method and one tokenizer. A serial method spawns nothing."""

    def __init__(self, markup: Markup, method: Method, tokenizer: ForeignTokenizer) -> None:
        self.markup = markup
        self.name = markup.name
        self.method = method
        self.tokenizer = tokenizer
        self._refused = "" if markup.refused is None else markup.refused[0]
        stops = (markup.spawn, markup.end, self._refused) if method == "apr" else ()
        self._stops: tuple[str, ...] = tuple(filter(None, stops))
        words = {*markup.words, *self._stops, *tokenizer.special_names}
        self._word = re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))))
        ends = {stop[-1] for stop in self._stops}
        tokens = ((i, self.text([i])) for i in range(tokenizer.vocab_size) if ends and i != tokenizer.eos)
        self.stop_token_ids: Ids = (tokenizer.eos, *(i for i, text in tokens if ends.intersection(text)))
        # What a template writes between a join and what the thread says next; nothing where there is none.
        self._replies = self.text(tokenizer.reply("?", True)).partition("?")[2] if markup.turns else ""

    spawn_token: None = None
    """Several tokens spell it."""

    @property
    def vocab_size(self) -> int:
        """Token ids that have a text."""
        return self.tokenizer.vocab_size

    def encode(self, text: str) -> Ids:
        return tuple(self.tokenizer.encode(text, special=False))

    def spawn(self, prompts: Sequence[str]) -> Ids:
        if self.markup.spawns is None or self.method != "apr":
            raise ValueError(f"language: no search that spawns is written in {self.name} by the method {self.method}")
        return self.encode(self.markup.spawns([self.plain(prompt) for prompt in prompts]))

    def end(self, answer: str | None) -> Ids:
        written = "" if answer is None or not answer.strip() else self.markup.ends(self.plain(answer.strip()))
        return (*self.encode(written), self.tokenizer.eos)

    def plain(self, text: str) -> str:
        """Text of others: each word in it is broken by a space behind its first character."""
        return self._word.sub(lambda word: f"{word[0][0]} {word[0][1:]}", text)

    def open(self, prompt: Prompt) -> Ids:
        turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
        return self._ask([Message(turn.role, self.plain(turn.content)) for turn in turns], self.markup.system)

    def _ask(self, turns: list[Message], system: str | None) -> Ids:
        """A conversation, the markup's own system message before the caller's."""
        if system is not None and self.tokenizer.chats:
            if turns[0].role == "system":
                system = f"{system}\n\n{turns.pop(0).content}"
            turns = [Message("system", system), *turns]
        return tuple(self.tokenizer.ask(turns))

    def text(self, token_ids: Sequence[int]) -> str:
        return self.tokenizer.decode(token_ids, skip_special=True)

    def settled_stop(self, token_ids: Sequence[int]) -> bool:
        """Whether a sequence that stopped at one of the stop tokens has really come to an end."""
        return token_ids[-1] == self.tokenizer.eos or self._stopped(token_ids) is not None

    def action(self, token_ids: Sequence[int], level: int) -> Action:
        markup, stop = self.markup, self._stopped(token_ids)
        if markup.refused is not None and stop == self._refused:
            return Replace(self._instead(token_ids, *markup.refused))
        if stop is None or stop != markup.spawn or (level > 1 and not markup.nests):
            return Done()
        text = self.text(token_ids)
        return self._spawned(token_ids, text[: text.rindex(markup.spawn) + len(markup.spawn)])

    def first(self, token_ids: Sequence[int]) -> Spawn | Malformed | None:
        """The children that its main thread begins with, where it begins with a spawn."""
        spawns = self.markup.first and self.method == "apr"
        return self._spawned(token_ids, self.text(token_ids)) if spawns else None

    def _spawned(self, token_ids: Sequence[int], text: str) -> Spawn | Malformed:
        """The spawn that a thread's text ends in."""
        markup = self.markup
        try:
            said = markup.children(text)
            if markup.most is not None and len(said) > markup.most:
                raise ValueError(f"a spawn has {len(said)} children, and at most {markup.most} are allowed")
            return Spawn(tuple(self._child(token_ids, place, one, text) for place, one in enumerate(said)))
        except ValueError as error:
            return Malformed(str(error))

    def join(self, token_ids: Sequence[int], results: Results, cancelled: Collection[int], level: int) -> Resumption:
        told = self.markup.join(results, cancelled)
        if self.markup.turns:
            more = self.tokenizer.reply(told, token_ids[-1] == self.tokenizer.eos)
        else:
            more = self._behind(token_ids, told)
        return Resumption(len(token_ids), tuple(more))

    def settled(self, text: str) -> int:
        # It comes in pieces: what may become one is not settled.
        word = self._refused
        return len(text) - next((length for length in range(len(word), 0, -1) if text.endswith(word[:length])), 0)

    def claim(self, text: str, begin: int, depth: int) -> str | None:
        if not depth:
            written = text[begin:]
            # Where joins are turns of a conversation, the answer is the last one.
            return self.markup.answer(written.rpartition(self._replies)[2] if self._replies.strip() else written)
        header, written, end = text[:begin], text[begin:], self.markup.end or ""
        if self.markup.result is None:
            ended = end if written.endswith(end) else f"\n{end}"
            return f"{header}{self.plain(written.removesuffix(end))}{ended}"
        result: str | None = self.markup.result(written)
        return None if result is None else self.plain(result)

    def _child(self, token_ids: Sequence[int], place: int, said: str, parent: str) -> Child:
        markup = self.markup
        header = markup.header(place, self.plain(said), parent)
        own = markup.child_temperature, markup.child_tokens
        if markup.inherits:
            more = self._behind(token_ids, header)
            return Child((*token_ids, *more), said, len(token_ids), *own)
        system = markup.system if markup.child_system is None else markup.child_system
        return Child(self._ask([Message("user", header)], system), header, 0, *own)

    def _instead(self, token_ids: Sequence[int], word: str, instead: str) -> Resumption:
        """Without the tokens that hold the word; what else they hold before it is written again."""
        length = 1
        while word not in self.text(token_ids[-length:]):
            length += 1
        before = self.text(token_ids[-length:]).partition(word)[0]
        return Resumption(len(token_ids) - length, tuple(self.tokenizer.encode(before + instead)))

    def _behind(self, token_ids: Sequence[int], text: str) -> list[int]:
        """What is put behind a stop, whose last token may hold a line break as well."""
        if text.startswith("\n") and self.text(token_ids[-1:]).endswith("\n"):
            text = text[1:]
        return self.tokenizer.encode(text)

    def _stopped(self, token_ids: Sequence[int]) -> str | None:
        """The stop that ends in the last token; None if none does."""
        if token_ids[-1] == self.tokenizer.eos:
            return None
        last = len(self.text(token_ids[-1:]))
        for stop in self._stops:
            # A token is of at least one character, or of some bytes of one.
            tail = self.text(token_ids[-4 * (len(stop) + 1) :])
            found = tail.rfind(stop)
            if found >= 0 and found + len(stop) > len(tail) - last:
                return stop
        return None


def between(text: str, begin: str, end: str) -> list[str]:
    """What stands between each `begin` and the next `end`, in order."""
    found: list[str] = []
    at = text.find(begin)
    while at >= 0 and (stop := text.find(end, at + len(begin))) >= 0:
        found.append(text[at + len(begin) : stop])
        at = text.find(begin, stop + len(end))
    return found


def last_answer(written: str) -> str | None:
    """What a text answers: its last `<answer>`, or else all that stands behind its last thought."""
    tagged = between(written, "<answer>", "</answer>")
    answer = tagged[-1] if tagged else written.rpartition("</think>")[2]
    return answer.strip() or None
