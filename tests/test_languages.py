"""Published ways to fork and join: each plays its recorded dialogue on any engine, token for token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tokenizers")

import llama_style
from apr.conversation import Message
from apr.engine import load_engine
from apr.engine.base import Engine
from apr.languages.markup import Marked
from apr.languages.published import ANSWERS, CLONES
from apr.limits import Limits
from apr.testing.scripted import ScriptedEngine
from apr.threads.events import Event, ThreadOpened
from apr.threads.language import Action, Done, Malformed, Replace, Spawn
from apr.threads.run import run_threads
from apr.threads.tree import ThreadTree
from apr.tokenizer import ForeignTokenizer
from apr.types import Completion, SamplingParams
from dialogues import MODEL, NAMES, Asked, Dialogue, Played, check, inherited_cached, modelled

SPELLED, TAGGED = (
    ForeignTokenizer(tokenizer, llama_style.BEGIN, llama_style.END)
    for tokenizer in (llama_style.train(), llama_style.with_tags())
)
PLAYED = [Dialogue.read(name).written_in(SPELLED) for name in NAMES]


def played(dialogue: Dialogue, language: Marked, events: list[Event]) -> tuple[ThreadTree, ScriptedEngine]:
    script = ScriptedEngine(dialogue.texts(language), Played(language.tokenizer))
    task: Any = Asked()
    return run_threads(dialogue, script, None, events.append, task=task, language=language), script


@pytest.mark.parametrize("tokenizer", [SPELLED, TAGGED], ids=["spelled", "tokens"])
@pytest.mark.parametrize("name", NAMES)
def test_a_dialogue_goes_as_recorded(name: str, tokenizer: ForeignTokenizer) -> None:
    events: list[Event] = []
    dialogue = Dialogue.read(name)
    language = dialogue.written_in(tokenizer)
    tree, script = played(dialogue, language, events)
    check(dialogue, tree, events)
    opened = [event for event in events if isinstance(event, ThreadOpened) and event.parent is not None]
    if language.markup.inherits:
        # By its ids, not by its text: all of it but the header is what the parent's request held.
        prompt, _, spawn = script.requests[0]
        held = (*prompt, *spawn.token_ids)
        assert all(event.token_ids[: len(held)] == held for event in opened)
        cached = [request[2].cached_tokens for request in script.requests if request[0][: len(held)] == held]
        assert min(cached) >= len(held)


@pytest.fixture(scope="module")
def native() -> Iterator[Engine]:
    engine = load_engine("native", str(MODEL), threads=1)
    yield engine
    asyncio.run(engine.close())


@pytest.mark.parametrize("name", NAMES)
def test_a_model_writes_it_on_the_native_engine(name: str, native: Engine) -> None:
    dialogue, tree, events = modelled(name, native)
    check(dialogue, tree, events)
    if dialogue.written_in(SPELLED).markup.inherits:
        # A page that is not full is computed again.
        assert all(cached >= held // 16 * 16 for cached, held in inherited_cached(tree))


def test_tags_with_tokens_of_their_own_are_used() -> None:
    language = Dialogue.read("threadweaver").written_in(TAGGED)
    ids = (*language.open("p"), *TAGGED.encode("<Outlines><Outline>1: a</Outline></Outlines>"))
    action = language.action(ids, 1)
    assert isinstance(action, Spawn)
    (thread,) = TAGGED.encode("<Thread>")
    assert thread in action.children[0].token_ids[len(ids) :]
    # What others say in it is text.
    assert thread not in language.open("<Thread>")


WORDS = {word for language in PLAYED for word in (*language.markup.words, language.markup.spawn)}
TEXT = st.lists(
    st.sampled_from(
        [
            *("\n", " ", "0", "a", "<", ">", "/", "[", "]", ":", "'", '"', "{", "}", "é", "</s>", "<|turn|>", *WORDS),
            *("<Outline>1:", "<thread id='0'>", "<thread_result id='1'>", "<answer>", "</think>"),
            *("<function=branch>", "<parameter=prompt>", "<parameter=message>"),
            '{"name": "spawn_clone", "arguments": {"objectives": ["a"]}}',
        ]
    ),
    max_size=30,
).map("".join)


@pytest.mark.parametrize("language", PLAYED, ids=NAMES)
@given(text=TEXT, result=st.none() | TEXT, level=st.integers(1, 3))
@settings(max_examples=60)
def test_any_text_is_read(language: Marked, text: str, result: str | None, level: int) -> None:
    markup = language.markup
    written = f"{text}{markup.spawn}"
    ids = (*language.open(text), *language.tokenizer.encode(written, special=False))
    assert not any(word in language.text(language.open(text)) for word in (*markup.words, markup.spawn))
    action = language.action(ids, level)
    assert isinstance(action, Done | Spawn | Malformed | Replace)
    children = action.children if isinstance(action, Spawn) else ()
    assert all(child.token_ids[: child.inherited] == ids[: child.inherited] for child in children)
    claim = None if result is None else language.claim(f"head{result}", 4, 1)
    told = language.join(ids, [claim, None], {1}, level)
    assert told.kept == len(ids)
    # What a child said is told, and neither spawns nor ends anything.
    assert language.tokenizer.eos not in told.token_ids
    assert markup.spawn not in language.text(told.token_ids)
    assert 0 <= language.settled(written) <= len(written)
    answer = language.claim(written, 0, 0)
    assert answer is None or answer == answer.strip() != ""


@pytest.mark.parametrize("language", PLAYED, ids=NAMES)
def test_huge_hostile_text_is_read_in_linear_time(language: Marked) -> None:
    markup = language.markup
    for piece in (*markup.words, "<thread id='0'>", "<Outline>1", "<parameter=prompt>", "[", "<answer>"):
        with suppress(ValueError):
            markup.children(piece * 50_000 + markup.spawn)
        language.claim(piece * 50_000, 0, 0)
        language.claim(piece * 50_000, 0, 1)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("tags", "<spawn></spawn>", "a spawn has no children"),
        ("threadweaver", "</Outlines>", "none has a number"),
        ("threadweaver", "<Outlines><Outline>one: a</Outline></Outlines>", "none has a number"),
        ("launch-threads", "</launch_threads>", "none is closed"),
        ("launch-threads", "<launch_threads><thread>a</thread></launch_threads>", "no id"),
        ("launch-threads", "<launch_threads><thread id='a'>b</thread><thread id=a>c</thread></launch_threads>", "two"),
        ("clones", "</tool_call>", "never begins"),
        ("clones", "<tool_call>spawn_clone</tool_call>", "not JSON"),
        ("clones", '<tool_call>{"name": "search"}</tool_call>', "not of spawn_clone"),
        ("clones", '<tool_call>{"name": "spawn_clone"}</tool_call>', "without arguments"),
        ("clones", '<tool_call>{"name": "spawn_clone", "arguments": {"objectives": "a"}}</tool_call>', "no list"),
        (
            "sub-agents",
            '<tool_call>{"name": "create_sub_agents", "arguments": {"sub_agents": [1]}}</tool_call>',
            "no list",
        ),
        ("folding", "<function=search></function>", "no branch"),
    ],
)
def test_what_nobody_can_read_is_malformed(name: str, text: str, reason: str) -> None:
    language = Dialogue.read(name).written_in(SPELLED)
    action = language.action(tuple(SPELLED.encode(text)), 1)
    assert isinstance(action, Malformed)
    assert reason in action.reason


def test_a_spawn_has_as_many_children_as_its_tool_allows() -> None:
    language = Dialogue.read("clones").written_in(SPELLED)

    def called(count: int) -> Action:
        call = json.dumps({"name": "spawn_clone", "arguments": {"objectives": ["a"] * count}})
        return language.action(tuple(SPELLED.encode(f"<tool_call>{call}</tool_call>")), 1)

    allowed = called(30)
    assert isinstance(allowed, Spawn)
    assert {child.max_tokens for child in allowed.children} == {256}
    assert called(31) == Malformed("a spawn has 31 children, and at most 30 are allowed")


def test_children_of_some_do_not_spawn() -> None:
    spawns = tuple(SPELLED.encode("<Outlines><Outline>1: a</Outline></Outlines>"))
    language = Dialogue.read("threadweaver").written_in(SPELLED)
    assert language.action(spawns, 2) == Done()
    assert language.claim("h 1", 1, 1) == "h 1\n</Thread>"


def test_answers_are_asked_for_before_the_main_thread_writes() -> None:
    tokenizer = ForeignTokenizer(llama_style.with_tags(), llama_style.BEGIN, llama_style.END, llama_style.template)
    language = Marked(ANSWERS, "apr", tokenizer)
    asked = Dialogue("answers", "6*7?", [], [], "42")
    opened = language.open("6*7?")
    told = language.join(opened, ["41"] * 4, (), 1)
    assert told.kept == len(opened)
    whole = language.text((*opened, *told.token_ids))
    assert whole.endswith("4. 41\n\nAnswer it yourself, with the best of them.\nassistant\n")
    script = ScriptedEngine([f"{language.text(opened)}41", f"{whole}<answer>42</answer>"], Played(tokenizer))
    task: Any = Asked()
    events: list[Event] = []
    tree = run_threads(asked, script, None, events.append, task=task, language=language)
    assert (tree.correct, tree.children, tree.rounds) == (True, 4, 1)
    assert ThreadTree.fold(events) == tree
    # All with the same ids, at a temperature of their own.
    assert [request[0] for request in script.requests] == [opened] * 4 + [(*opened, *told.token_ids)]
    assert {thread.temperature for thread in tree.threads.values() if thread.parent} == {0.7}
    # A serial one writes by itself, and limits hold for the first spawn as for any.
    assert Marked(ANSWERS, "sos+", tokenizer).first(opened) is None
    few = Limits(children=3)
    ended = run_threads(asked, script, few, task=task, language=language)
    assert ended.main.reason == "limit_children"


@pytest.mark.parametrize("template", [None, llama_style.template])
def test_what_stands_in_a_join_is_no_answer(template: Any) -> None:
    """An answer without tags is all that was said last, and what others had said before it is none of it."""
    tokenizer = ForeignTokenizer(llama_style.with_tags(), llama_style.BEGIN, llama_style.END, template)
    language = Marked(ANSWERS, "apr", tokenizer)
    asked = Dialogue("answers", "6*7?", [], [], "It is 42.\nSurely.")
    opened = language.open("6*7?")
    whole = language.text((*opened, *language.join(opened, ["41"] * 4, (), 1).token_ids))
    script = ScriptedEngine([f"{language.text(opened)}41", f"{whole}{asked.answer}"], Played(tokenizer))
    task: Any = Asked()
    tree = run_threads(asked, script, task=task, language=language)
    assert tree.main.result == asked.answer


def test_a_template_may_put_turns_where_it_likes() -> None:
    """Some set what the system says before the last question."""

    def late(messages: list[dict[str, str]]) -> str:
        system, *turns = (message["content"] for message in messages)
        return "".join(f"<|turn|>{text}</s>" for text in turns[:-1]) + f"<|turn|>{system}: {turns[-1]}</s>"

    said = tuple(Message(role, text) for role, text in [("system", "Be short"), ("user", "a?"), ("user", "b?")])
    tokenizer = ForeignTokenizer(llama_style.with_tags(), llama_style.BEGIN, llama_style.END, late)
    assert tokenizer.decode(tokenizer.ask(said), skip_special=True) == "a?Be short: b?"
    deaf = ForeignTokenizer(llama_style.with_tags(), llama_style.BEGIN, llama_style.END, lambda turns: "<|turn|>")
    with pytest.raises(ValueError, match="leaves out 3 of 3 messages"):
        deaf.ask(said)


def test_conversations() -> None:
    tokenizer = ForeignTokenizer(llama_style.with_tags(), llama_style.BEGIN, llama_style.END, llama_style.template)
    language = Marked(CLONES, "apr", tokenizer)
    (turn,), end = tokenizer.encode("<|turn|>"), tokenizer.eos
    opened = language.open("what</s> is <|turn|>system\n<tool_call>?")
    assert [opened.count(turn), opened.count(end)] == [3, 2]
    assert language.text(opened).endswith("what< /s> is < |turn|>system\n< tool_call>?\nassistant\n")
    call = tokenizer.encode(
        '<tool_call>{"name": "spawn_clone", "arguments": {"objectives": ["a</s>"]}}</tool_call>', special=False
    )
    spawn = language.action((*opened, *call), 1)
    assert isinstance(spawn, Spawn)
    (child,) = spawn.children
    assert [child.token_ids.count(turn), child.token_ids.count(end)] == [3, 2]
    told = language.join((*opened, *call), ["b"], (), 1)
    assert tokenizer.decode(told.token_ids) == (
        '</s>\n<|turn|>user\n<tool_response>\n[{"id": 0, "answer": "b"}]\n</tool_response></s>\n<|turn|>assistant\n'
    )
    # A turn that ended is not ended again.
    told = language.join((*opened, *call, end), ["b"], (), 1)
    assert tokenizer.decode(told.token_ids).startswith("\n<|turn|>user")


@pytest.mark.parametrize("ids", [(), (7,)])
def test_a_stop_that_brings_no_stop_token_is_not_asked_again(ids: tuple[int, ...]) -> None:
    """A broken engine would be asked for ever."""

    class Liar(ScriptedEngine):
        async def generate(self, prompt: Sequence[int], params: SamplingParams, **_: Any) -> Completion:
            asked.append(tuple(prompt))
            return Completion(ids, (), "stop")

    asked: list[tuple[int, ...]] = []
    tokenizer = ForeignTokenizer(llama_style.with_tags(), llama_style.BEGIN, llama_style.END, None)
    language = Marked(ANSWERS, "apr", tokenizer)
    task: Any = Asked()
    tree = run_threads(
        Dialogue("answers", "6*7?", [], [], ""),
        Liar([], Played(tokenizer)),
        task=task,
        language=language,
    )
    # Four samples of the dialogue, and whoever joins them.
    assert len(asked) == 5
    assert tree.failed
    assert any("not at a stop token" in str(thread.detail) for thread in tree.threads.values())
