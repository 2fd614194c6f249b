"""The thread server as any OpenAI client sees it, and as a hostile one does."""

from __future__ import annotations

import asyncio
import json
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
openai = pytest.importorskip("openai")

import httpx  # noqa: E402
import uvicorn  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

import llama_style  # noqa: E402
from apr._core import check_solution, prompt  # noqa: E402
from apr.chat import Chat  # noqa: E402
from apr.cli import main  # noqa: E402
from apr.conversation import Message  # noqa: E402
from apr.engine.sglang.server import free_port  # noqa: E402
from apr.languages.markup import Marked  # noqa: E402
from apr.languages.tags import MARKUP as TAGS  # noqa: E402
from apr.languages.tags import Tags  # noqa: E402
from apr.limits import Limits  # noqa: E402
from apr.origin import Origin, write_origin  # noqa: E402
from apr.policy import Policy, PolicyError  # noqa: E402
from apr.serving import ServingLimits, thread_server  # noqa: E402
from apr.serving.turns import Full, Turns  # noqa: E402
from apr.testing.scripted import Fault, ScriptedEngine  # noqa: E402
from apr.threads.events import from_json  # noqa: E402
from apr.threads.tree import ThreadTree  # noqa: E402
from apr.tokenizer import ForeignTokenizer  # noqa: E402
from dialogues import Dialogue, Played  # noqa: E402
from tiny import SOLVED, save_tiny_model, teacher_policy  # noqa: E402

PROMPT = prompt(SOLVED, "apr")
KEY = "a-key"


@contextmanager
def serving(policy: Policy, **options: Any) -> Iterator[str]:
    """A real server on a port of its own; its address."""
    port = free_port()
    app = thread_server(policy, "teacher", **options)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with serving(teacher_policy(), api_key=KEY) as url:
        yield openai.OpenAI(base_url=url, api_key=KEY, max_retries=0)


def test_a_plain_client_gets_the_main_threads_text(client: Any) -> None:
    answer = client.completions.create(model="teacher", prompt=PROMPT, temperature=0)
    [choice] = answer.choices
    assert choice.finish_reason == "stop"
    assert answer.usage.completion_tokens > 0
    extension = answer.model_extra["apr"]
    main, *children = extension["threads"]
    assert children
    assert {child["parent"] for child in children} == {"0"}
    assert choice.text == main["text"]
    assert extension["correct"]
    assert check_solution(PROMPT, main["result"]).correct


def test_a_chat_client_gets_the_same(client: Any) -> None:
    plain = client.completions.create(model="teacher", prompt=PROMPT, temperature=0)
    said = [{"role": "user", "content": PROMPT}]
    ask = {"model": "teacher", "messages": said, "temperature": 0}
    answer = client.chat.completions.create(**ask)
    [choice] = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", plain.choices[0].text)
    assert (choice.finish_reason, answer.usage) == ("stop", plain.usage)
    assert answer.model_extra["apr"]["threads"] == plain.model_extra["apr"]["threads"]
    chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    deltas = [chunk.choices[0].delta for chunk in chunks[:-1]]
    assert [delta.role for delta in deltas] == ["assistant"] + [None] * (len(deltas) - 1)
    assert "".join(delta.content for delta in deltas) == choice.message.content
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage == answer.usage
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ({"messages": []}, "messages: a list"),
        ({"messages": PROMPT}, "messages: a list"),
        ({"messages": ["a"]}, "messages: a list"),
        ({"messages": [{"role": "user"}]}, "messages: a role"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages: a role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages: a role"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, "messages: a role"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages: a role"),
        ({"top_logprobs": 2}, "top_logprobs: not supported"),
        ({"modalities": ["audio"]}, "modalities: not supported"),
        ({"metadata": {"a": "b"}}, "metadata: not supported"),
        ({"service_tier": "flex"}, "service_tier: not supported"),
        ({"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": PROMPT}]}, "by one message"),
        ({"messages": [{"role": "user", "content": "hello"}]}, "messages: "),
        ({"tools": [{"type": "function"}]}, "tools: not supported"),
        ({"tool_choice": "auto"}, "tool_choice: not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format: not supported"),
        ({"prompt": PROMPT}, "'prompt': not supported"),
        ({"max_completion_tokens": 0}, "max_completion_tokens: out of range"),
    ],
    ids=str,
)
def test_a_chat_that_cannot_be_is_refused(raw: TestClient, field: dict[str, Any], reason: str) -> None:
    said = [{"role": "user", "content": PROMPT}]
    answer = raw.post("/v1/chat/completions", json={"messages": said, **field})
    assert answer.status_code == 400
    assert reason in answer.json()["error"]["message"]


def test_conversations_of_any_kind() -> None:
    pytest.importorskip("tokenizers")
    tokenizer = ForeignTokenizer(llama_style.with_tags(), llama_style.BEGIN, llama_style.END, llama_style.template)
    language = Marked(TAGS, "apr", tokenizer)
    turns = [("system", "Be short."), ("user", "a?"), ("assistant", "b"), ("user", "2+3?")]
    task = Chat()
    problem = task.read_messages([Message(role, text) for role, text in turns])  # type: ignore[arg-type]
    opened = language.text(language.open(problem))
    assert opened.endswith("\n\nBe short.\nuser\na?\nassistant\nb\nuser\n2+3?\nassistant\n")
    script = ScriptedEngine([f"{opened}<answer>5</answer>"], Played(tokenizer))
    policy = Policy(script, task, language, "apr")
    with serving(policy) as url:
        ask = openai.OpenAI(base_url=url, api_key=KEY, max_retries=0).chat.completions.create
        answer = ask(model="teacher", messages=[{"role": role, "content": text} for role, text in turns])
        assert answer.choices[0].message.content == "<answer>5</answer>"
        extension = answer.model_extra["apr"]
        assert (extension["correct"], extension["verdict"]) == (None, "nobody judges it")
        assert extension["threads"][0]["result"] == "5"
        with pytest.raises(openai.BadRequestError, match="ends with something that the user says"):
            ask(model="teacher", messages=[{"role": "assistant", "content": "b"}])
    policy.language = Tags()
    with serving(policy) as url:
        ask = openai.OpenAI(base_url=url, api_key=KEY, max_retries=0).chat.completions.create
        with pytest.raises(openai.BadRequestError, match="holds no conversations"):
            ask(model="teacher", messages=[{"role": role, "content": text} for role, text in turns])


@pytest.mark.parametrize("name", ["tags", "threadweaver", "parallel-r1", "launch-threads", "folding"])
def test_a_chat_forks_in_any_language(name: str) -> None:
    """A recorded dialogue, as an OpenAI client has it: the main thread's text, and the tree beside it."""
    tokenizer = ForeignTokenizer(llama_style.with_tags(), llama_style.BEGIN, llama_style.END, llama_style.template)
    dialogue = Dialogue.read(name)
    language = dialogue.written_in(tokenizer)
    script = ScriptedEngine(dialogue.texts(language), Played(tokenizer))
    policy = Policy(script, Chat(), language, "apr")
    ask: dict[str, Any] = {"model": "teacher", "messages": [{"role": "user", "content": dialogue.prompt}]}
    with serving(policy) as url:
        client = openai.OpenAI(base_url=url, api_key=KEY, max_retries=0)
        answer = client.chat.completions.create(**ask)
        main, *children = answer.model_extra["apr"]["threads"]
        assert answer.choices[0].message.content == main["text"] == "".join(dialogue.main)
        assert [child["result"] for child in children] == [child["result"] for child in dialogue.children]
        assert main["result"] == dialogue.answer
        chunks = list(client.chat.completions.create(**ask, stream=True, extra_body={"apr": {"events": True}}))
    told = [chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(chunk.choices[0].delta.content for chunk in told) == main["text"]
    events = [(chunk.model_extra or {}).get("apr", {}).get("event") for chunk in chunks]
    tree = ThreadTree.fold([from_json(json.dumps(event)) for event in events if event is not None])
    assert list(tree.threads) == ["0", *(f"0.{place}" for place in range(len(children)))]


def test_models_are_listed(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["teacher"]
    assert client.models.retrieve("teacher").id == "teacher"
    with pytest.raises(openai.NotFoundError, match="no model"):
        client.models.retrieve("other")


@pytest.mark.parametrize(
    "field",
    [
        {"top_p": 1}, {"top_p": 1.0}, {"n": 1}, {"best_of": 1}, {"echo": False}, {"stop": []}, {"stop": None},
        {"logit_bias": {}}, {"stream_options": {"include_usage": True}}, {"stream_options": {}},
        {"frequency_penalty": 0}, {"presence_penalty": 0.0}, {"logprobs": None}, {"suffix": ""}, {"suffix": None},
        {"user": "somebody"}, {"seed": 3}, {"max_tokens": 100_000}, {"apr": None}, {"apr": {}},
        {"temperature": 1e-4}, {"temperature": 1e4}, {"temperature": None},
    ],
    ids=str,
)  # fmt: skip
def test_fields_that_ask_for_nothing_are_taken(raw: TestClient, field: dict[str, Any]) -> None:
    answer = raw.post("/v1/completions", json={"prompt": PROMPT, "temperature": 0, **field})
    assert answer.status_code == 200
    assert answer.json()["apr"]["correct"]


@pytest.mark.parametrize(
    "field",
    [
        {"logprobs": False}, {"top_logprobs": 0}, {"tools": []}, {"tool_choice": "none"}, {"store": False},
        {"response_format": {"type": "text"}}, {"modalities": ["text"]}, {"metadata": {}}, {"service_tier": "auto"},
        {"parallel_tool_calls": True}, {"messages": [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}]},
    ],
    ids=lambda field: next(iter(field)),
)  # fmt: skip
def test_chat_fields_that_ask_for_nothing_are_taken(raw: TestClient, field: dict[str, Any]) -> None:
    said = [{"role": "user", "content": PROMPT}]
    answer = raw.post("/v1/chat/completions", json={"messages": said, "max_tokens": 3, **field})
    assert answer.status_code == 200


def test_usage_ends_a_stream_that_asks_for_it(client: Any) -> None:
    ask = {"model": "teacher", "prompt": PROMPT, "temperature": 0}
    whole = client.completions.create(**ask).usage
    *chunks, last = client.completions.create(**ask, stream=True, stream_options={"include_usage": True})
    assert last.usage == whole
    assert last.choices == []
    assert {chunk.usage for chunk in chunks} == {None}
    assert all("usage" in chunk.model_fields_set for chunk in chunks)
    plain = list(client.completions.create(**ask, stream=True))
    assert {chunk.usage for chunk in plain} == {None}
    assert len(plain) == len(chunks)


def test_prompts_come_as_texts_token_ids_and_lists(client: Any) -> None:
    ids = [int(i) for i in teacher_policy().language.open(PROMPT)]
    whole = client.completions.create(model="teacher", prompt=PROMPT, temperature=0).choices[0].text
    for prompts in (ids, ids[1:], [PROMPT], [ids], [PROMPT, PROMPT], [ids, PROMPT, ids]):
        answer = client.completions.create(model="teacher", prompt=prompts, temperature=0)
        assert [choice.text for choice in answer.choices] == [whole] * len(answer.choices)
        assert [choice.index for choice in answer.choices] == list(range(len(answer.choices)))
        several = isinstance(prompts[0], str | list) and len(prompts) > 1
        assert len(answer.choices) == (len(prompts) if several else 1)
        told = [choice.model_extra["apr"] for choice in answer.choices] if several else [answer.model_extra["apr"]]
        assert all(extension["correct"] for extension in told)
        texts = [""] * len(answer.choices)
        for chunk in client.completions.create(model="teacher", prompt=prompts, temperature=0, stream=True):
            texts[chunk.choices[0].index] += chunk.choices[0].text
        assert texts == [whole] * len(answer.choices)


def test_a_stream_gives_the_same_text_and_takes_none_back(client: Any) -> None:
    whole = client.completions.create(model="teacher", prompt=PROMPT, temperature=0).choices[0].text
    chunks = list(client.completions.create(model="teacher", prompt=PROMPT, temperature=0, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole
    assert len(chunks) > 3
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == [None, "stop"]
    assert chunks[-1].model_extra["apr"]["correct"]


def test_events_of_all_threads_come_with_a_stream(client: Any) -> None:
    chunks = client.completions.create(
        model="teacher", prompt=PROMPT, temperature=0, stream=True, extra_body={"apr": {"events": True}}
    )
    tree = ThreadTree()
    for chunk in chunks:
        event = (chunk.model_extra or {}).get("apr", {}).get("event")
        if event is not None:
            tree.apply(from_json(json.dumps(event)))
    assert tree.finished is not None
    assert tree.finished.correct
    assert len(tree.threads) > 1


def test_a_budget_comes_from_the_prompt_or_the_extension() -> None:
    with serving(teacher_policy(budget=6)) as url:
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        ask = client.completions.create
        named = ask(model="teacher", prompt=prompt(SOLVED, "apr", 6))
        asked = ask(model="teacher", prompt=PROMPT, extra_body={"apr": {"budget": 6, "join": "all"}})
        assert named.model_extra["apr"]["correct"]
        assert asked.model_extra["apr"]["correct"]
        # Nothing is scripted for a prompt without one.
        with pytest.raises(openai.InternalServerError, match="engine failed"):
            ask(model="teacher", prompt=PROMPT)


def test_max_tokens_bounds_all_threads(client: Any) -> None:
    answer = client.completions.create(model="teacher", prompt=PROMPT, max_tokens=100)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens <= 100


def test_no_client_has_more_tokens_than_the_server_gives() -> None:
    with serving(teacher_policy(), limits=ServingLimits(rollout=Limits(total_tokens=50))) as url:
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        answer = client.completions.create(model="teacher", prompt=PROMPT, max_tokens=100_000)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens <= 50


def test_a_failed_engine_is_no_answer() -> None:
    with serving(teacher_policy(faults=[Fault("", "error", after=5)])) as url:
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        with pytest.raises(openai.InternalServerError, match="scripted error"):
            client.completions.create(model="teacher", prompt=PROMPT)
        with pytest.raises(openai.APIError, match="scripted error"):
            list(client.completions.create(model="teacher", prompt=PROMPT, stream=True))


@pytest.fixture(scope="module")
def raw() -> Iterator[TestClient]:
    limits = ServingLimits(body_bytes=4096)
    with TestClient(thread_server(teacher_policy(), "teacher", limits=limits)) as made:
        yield made


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 3000, 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"prompt": 3}', 400),
        (b'{"prompt": ["a", "b"]}', 400),
        (b'{"prompt": "no problem here"}', 400),
        (json.dumps({"prompt": PROMPT, "n": 2}).encode(), 400),
        (json.dumps({"prompt": PROMPT, "best_of": 3}).encode(), 400),
        (json.dumps({"prompt": PROMPT, "max_tokens": -1}).encode(), 400),
        (json.dumps({"prompt": PROMPT, "max_tokens": True}).encode(), 400),
        (json.dumps({"prompt": PROMPT, "temperature": "hot"}).encode(), 400),
        (b'{"prompt": "x", "temperature": NaN}', 400),
        (json.dumps({"prompt": PROMPT, "apr": 1}).encode(), 400),
        (json.dumps({"prompt": PROMPT, "apr": {"join": "some"}}).encode(), 400),
        (json.dumps({"prompt": PROMPT, "apr": {"what": 1}}).encode(), 400),
        (json.dumps({"prompt": PROMPT, "model": "other"}).encode(), 404),
        (b" " * 5000, 413),
        *(
            (json.dumps({"prompt": PROMPT, "temperature": 0, **field}).encode(), 400)
            for field in (
                {"stream": "yes"},
                {"stream": 1},
                {"n": True},
                {"n": "1"},
                {"n": [1]},
                {"best_of": True},
                {"top_p": 0.9},
                {"top_p": True},
                {"top_p": "1"},
                {"echo": True},
                {"echo": 0},
                {"stop": ["x"]},
                {"stop": "x"},
                {"stop": {}},
                {"logit_bias": {"3": 1}},
                {"logit_bias": []},
                {"logprobs": 0},
                {"logprobs": 3},
                {"frequency_penalty": 0.1},
                {"frequency_penalty": False},
                {"presence_penalty": "0"},
                {"suffix": "x"},
                {"user": 3},
                {"user": []},
                {"seed": "x"},
                {"seed": 1.5},
                {"seed": True},
                {"model": 5},
                {"what": 1},
                {"\ud800" * 99: 1},
                {"temperature": True},
                {"temperature": 5e-5},
                {"temperature": 1e5},
                {"temperature": -1},
                {"temperature": 1e400},
                {"max_tokens": 0},
                {"max_tokens": 1.5},
                {"max_tokens": 10**30},
                {"stream_options": []},
                {"stream_options": {"include_usage": 1}},
                {"stream_options": {"x": True}},
                {"apr": []},
                {"apr": ""},
                {"apr": False},
                {"apr": {"join": []}},
                {"apr": {"join": ""}},
                {"apr": {"join": {}}},
                {"apr": {"events": "yes"}},
                {"apr": {"events": 1}},
                {"apr": {"budget": -1}},
                {"apr": {"budget": True}},
                {"apr": {"budget": 99999999999999999999}},
                {"apr": {"budget": "6"}},
                {"prompt": []},
                {"prompt": [[]]},
                {"prompt": [True]},
                {"prompt": [1.0]},
                {"prompt": [-1]},
                {"prompt": [2**70]},
                {"prompt": [10**6]},
                {"prompt": [[1], "x", 3]},
                {"prompt": [[[1]]]},
                {"prompt": {}},
                {"prompt": [PROMPT, None]},
                {"prompt": "\ud800"},
                {"prompt": False},
            )
        ),
        (json.dumps({"prompt": PROMPT, "model": "\ud800"}).encode(), 404),
    ],
)
def test_what_cannot_be_served_is_refused(raw: TestClient, body: bytes, status: int) -> None:
    answer = raw.post("/v1/completions", content=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("http://test", 200),
        ("https://test", 200),
        ("http://test:8000", 403),
        ("http://example.com", 403),
        ("http://test.example.com", 403),
        ("null", 403),
        ("", 403),
    ],
)
@pytest.mark.parametrize("key", [None, KEY])
def test_a_page_of_another_site_is_answered_only_with_a_key(origin: str | None, status: int, key: str | None) -> None:
    headers = {} if origin is None else {"Origin": origin}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    with TestClient(thread_server(teacher_policy(), "teacher", api_key=key), base_url="http://test") as made:
        body = {"prompt": PROMPT, "temperature": 0}
        assert made.post("/v1/completions", json=body, headers=headers).status_code == (200 if key else status)


def test_a_key_is_asked_for() -> None:
    with TestClient(thread_server(teacher_policy(), "teacher", api_key=KEY)) as made:
        body = {"prompt": PROMPT, "temperature": 0}
        assert made.post("/v1/completions", json=body).status_code == 401
        assert made.get("/v1/models", headers={"Authorization": "Bearer other"}).status_code == 401
        for wrong in (b"", b"Bearer", b"Bearer ", b"Bearer \xed\xa0\x80", b"Bearer \xff", f"bearer {KEY}x".encode()):
            headers = {b"Authorization": wrong}
            assert made.post("/v1/completions", json=body, headers=headers).status_code == 401
            assert made.get("/v1/models/teacher", headers=headers).status_code == 401
        assert made.post("/v1/completions", json=body, headers={"Authorization": f"Bearer {KEY}"}).status_code == 200


@pytest.mark.parametrize("key", ["\ud800", "clé"])
def test_a_key_that_no_header_holds_opens_nothing(key: str) -> None:
    with TestClient(thread_server(teacher_policy(), "teacher", api_key=key)) as made:
        assert made.get("/v1/models", headers={b"Authorization": b"Bearer \xff"}).status_code == 401


def test_other_addresses_are_told_in_the_same_form(raw: TestClient) -> None:
    for answer, status in ((raw.get("/v1/nothing"), 404), (raw.get("/v1/completions"), 405)):
        assert answer.status_code == status
        assert answer.json()["error"]["message"]


def together(calls: list[Callable[[], Any]]) -> list[Any]:
    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(asyncio.to_thread(call) for call in calls), return_exceptions=True)

    return asyncio.run(all_of_them())


def test_too_many_requests_are_refused_and_the_rest_are_served() -> None:
    limits = ServingLimits(running=1, waiting=1)
    with serving(teacher_policy(seconds_per_token=0.001), limits=limits) as url:
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)

        def ask() -> str:
            return client.completions.create(model="teacher", prompt=PROMPT, temperature=0).choices[0].text

        answers = together([ask] * 5)
    refused = [answer for answer in answers if isinstance(answer, openai.RateLimitError)]
    texts = [answer for answer in answers if isinstance(answer, str)]
    assert len(refused) + len(texts) == 5
    assert refused
    assert texts


def test_a_queue_takes_as_many_as_it_says_however_many_come_at_once() -> None:
    policy = teacher_policy(seconds_per_token=0.001)
    app = thread_server(policy, "teacher", limits=ServingLimits(running=2, waiting=5))
    most = 0

    async def ask(http: Any, stream: bool) -> int:
        nonlocal most
        body = {"prompt": PROMPT, "temperature": 0, "max_tokens": 5, "stream": stream}
        status: int = (await http.post("/v1/completions", json=body)).status_code
        most = max(most, len({request.partition("/")[0] for request in policy.engine._open}))  # type: ignore[attr-defined]
        return status

    async def all_at_once() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http:
            return await asyncio.gather(*(ask(http, stream) for stream in (True, False) for _ in range(20)))

    statuses = asyncio.run(all_at_once())
    assert sorted(statuses) == [200] * 7 + [429] * 33
    assert most <= 2


def test_clients_take_turns() -> None:
    """A client's short request waits for no long one of another's, in the queue nor for a place."""
    policy = teacher_policy(seconds_per_token=0.002)
    app = thread_server(policy, "teacher", limits=ServingLimits(running=2, waiting=8, newcomers=1))
    ended: list[str] = []

    async def ask(http: Any, user: str, tokens: int) -> int:
        body = {"prompt": PROMPT, "temperature": 0, "max_tokens": tokens, "user": user}
        status: int = (await http.post("/v1/completions", json=body)).status_code
        ended.append(user)
        return status

    async def all_at_once() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here", timeout=60) as http:
            greedy = [asyncio.create_task(ask(http, "greedy", 100)) for _ in range(12)]
            await asyncio.sleep(0)
            others = [asyncio.create_task(ask(http, user, 3)) for user in ("second", "third")]
            return await asyncio.gather(*greedy, *others)

    statuses = asyncio.run(all_at_once())
    assert statuses == [200] * 10 + [429] * 2 + [200, 429]
    served = ended[2:]  # the refused come first
    assert served.index("second") < 2


def test_turns_are_fair_and_places_come_back() -> None:
    async def play() -> None:
        turns = Turns(running=2, waiting=4, newcomers=1)
        a = turns.join("a", 3)
        [b] = turns.join("b", 1)
        assert [place.turn.is_set() for place in (*a, b)] == [True, True, False, True]
        with pytest.raises(Full):
            turns.join("a", 3)
        [c] = turns.join("c", 1)
        more = turns.join("a", 1)
        assert not c.turn.is_set()
        with pytest.raises(Full):
            turns.join("a", 1)
        [d] = turns.join("d", 1)
        with pytest.raises(Full):
            turns.join("e", 1)
        turns.leave(a[0])
        # Three were under way and two may be, so one more has to end; then those who have none come first.
        assert c.turn.is_set()
        assert not d.turn.is_set()
        turns.leave(c)
        assert d.turn.is_set()
        for place in (a[1], a[2], b, d, *more):
            turns.leave(place)
        assert all(place.turn.is_set() for place in turns.join("f", 2))

    asyncio.run(play())


def test_time_is_limited() -> None:
    limits = ServingLimits(rollout=Limits(seconds=0.2))
    with serving(teacher_policy(seconds_per_token=0.05), limits=limits) as url:
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        answer = client.completions.create(model="teacher", prompt=PROMPT)
    assert answer.choices[0].finish_reason == "length"
    assert answer.model_extra["apr"]["reason"] == "limit_time"


def test_threads_of_a_client_that_left_end() -> None:
    policy = teacher_policy(seconds_per_token=0.05)
    with serving(policy) as url:
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=0.5)
        with pytest.raises(openai.APITimeoutError):
            client.completions.create(model="teacher", prompt=PROMPT)
        deadline = time.monotonic() + 10
        while policy.engine._open and time.monotonic() < deadline:  # type: ignore[attr-defined]
            time.sleep(0.05)
        assert not policy.engine._open  # type: ignore[attr-defined]


def test_a_stream_that_nobody_reads_gives_its_place_back() -> None:
    limits = ServingLimits(running=1, waiting=0, newcomers=0)
    policy = teacher_policy(seconds_per_token=0.01)
    with serving(policy, limits=limits) as url:
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        stream = client.completions.create(model="teacher", prompt=PROMPT, stream=True)
        next(iter(stream))
        with pytest.raises(openai.RateLimitError):
            client.completions.create(model="teacher", prompt=PROMPT, max_tokens=2)
        stream.close()
        for _ in range(500):
            try:
                client.completions.create(model="teacher", prompt=PROMPT, max_tokens=2)
                break
            except openai.RateLimitError:
                time.sleep(0.02)
        else:
            pytest.fail("the place never came back")


SERVER = """
import asyncio, sys
sys.path.insert(0, {tests!r})
from tiny import teacher_policy
import apr.cli.serve
import apr.serving
policy = teacher_policy(seconds_per_token=0.05)
if {hangs!r}:
    async def hang(*_, **__):
        while True:
            try: await asyncio.sleep(100)
            except asyncio.CancelledError: pass
    policy.engine.generate = policy.engine.close = hang
apr.cli.serve.open_policy = lambda *_, **__: policy
limits = apr.serving.ServingLimits
apr.serving.ServingLimits = lambda **given: limits(**given, **{limits!r})
sys.exit(apr.cli.main(["serve", "--threads", "--port", {port!r}]))
"""


@contextmanager
def serving_process(*, hangs: bool = False, **limits: Any) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`apr serve --threads` as a program of its own, and its port."""
    port = free_port()
    code = SERVER.format(tests=str(Path(__file__).parent), port=str(port), limits=limits, hangs=hangs)
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert "/v1" in process.stderr.readline()
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.02)
        yield process, port
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_interrupts_what_runs_and_tells_the_clients(number: signal.Signals, status: int) -> None:
    with serving_process() as (process, port):
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
        silent = socket.create_connection(("127.0.0.1", port))
        half = socket.create_connection(("127.0.0.1", port))
        half.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\n\r\n{")
        stream = iter(client.completions.create(model="apr-tiny", prompt=PROMPT, temperature=0, stream=True))
        next(stream)
        whole: list[BaseException] = []

        def wait() -> None:
            try:
                client.completions.create(model="apr-tiny", prompt=PROMPT, temperature=0)
            except openai.APIError as error:
                whole.append(error)

        waits = threading.Thread(target=wait)
        waits.start()
        # Its own events show that it has begun: the stream goes on beside it.
        next(stream)
        begun = time.monotonic()
        process.send_signal(number)
        with pytest.raises(openai.APIError, match="the server stops"):
            list(stream)
        waits.join()
        assert "the server stops" in str(whole[0])
        assert b" 503 " in half.recv(1000)
        assert silent.recv(1000) == b""
        assert process.wait(timeout=30) == status
        assert time.monotonic() - begun < 5
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_an_engine_that_hangs_does_not_keep_the_process() -> None:
    with serving_process(hangs=True) as (process, port):
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
        stream = client.completions.create(
            model="apr-tiny", prompt=PROMPT, stream=True, extra_body={"apr": {"events": True}}
        )
        next(iter(stream))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 143


def test_a_connection_has_deadlines() -> None:
    with serving_process(head_seconds=0.3, body_seconds=0.3) as (_, port):
        silent, half_head, half_body = (socket.create_connection(("127.0.0.1", port)) for _ in range(3))
        half_head.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n")
        half_body.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\n\r\n{")
        assert silent.recv(1000) == half_head.recv(1000) == b""
        assert b" 408 " in half_body.recv(1000)


def test_connections_are_limited() -> None:
    with serving_process(connections=4) as (_, port):
        many = [socket.create_connection(("127.0.0.1", port)) for _ in range(12)]
        # Four stay; which ones depends on when the one that looked whether the server is up was gone.
        waiting, refused = list(many), 0
        while refused < 8:
            ready, _, _ = select.select(waiting, [], [], 60)
            assert ready
            for connection in ready:
                waiting.remove(connection)
                refused += b" 503 " in connection.recv(1000)
        for connection in many:
            connection.close()


@pytest.mark.parametrize(
    "words",
    [
        ["--server", "http://127.0.0.1:1"], ["--method", "sos+"], ["--running", "3"], ["--max-seconds", "3"],
        ["--cache", "64"], ["--engine", "torch"], ["--threads", "--log", "x"], ["--threads", "--servers", "2"],
        ["--threads", "--server", "http://127.0.0.1:1"], ["--threads", "--cache", "0"],
        ["--threads", "--cache", "99999999999999999999"], ["--threads", "--engine", "torch", "--cache", "64"],
        ["--cache-dtype", "float32"], ["--threads", "--engine", "torch", "--cache-dtype", "float32"],
        ["--threads", "--cache-dtype", "int4"],
        ["--compute-dtype", "bfloat16"], ["--threads", "--compute-dtype", "int8"],
        ["--threads", "--temperature", "1"], ["--threads", "--api-key", "cl\udce9"], ["--threads", "--api-key", "a\nb"],
        ["--threads", "--host", "no such host"], ["--threads", "--port", "9" * 5000],
    ],
    ids=lambda words: " ".join(words)[:40].encode("ascii", "replace").decode(),
)  # fmt: skip
def test_arguments_that_make_no_sense_are_refused_before_anything_starts(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("APR_API_KEY", raising=False)
    if "--server" not in words:
        monkeypatch.setattr("apr.policy.load_policy", lambda *_, **__: pytest.fail("a model is loaded"))
    assert main(["serve", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)


def test_the_engine_keeps_and_multiplies_as_it_is_asked_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {}

    def load(*_: Any, **options: Any) -> Policy:
        asked.update(options)
        raise PolicyError("enough is known")

    monkeypatch.setattr("apr.policy.load_policy", load)
    words = ["--port", str(free_port()), "--cache", "64", "--cache-dtype", "float32", "--compute-dtype", "bfloat16"]
    assert main(["serve", "--threads", *words]) == 2
    assert "enough is known" in capsys.readouterr().err
    assert (asked["cache_bytes"], asked["cache_dtype"], asked["compute_dtype"]) == (64 << 20, "float32", "bfloat16")


def test_a_model_of_a_method_that_none_ships_for_is_served_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def serve(*_: Any) -> int:
        return 15

    monkeypatch.setattr("apr.serving.server.serve", serve)
    model = save_tiny_model(tmp_path / "plain-search", context_length=512)
    write_origin(Origin(method="sos"), model)
    assert main(["serve", "--threads", "--model", model, "--port", str(free_port())]) == 128 + 15
    assert "plain-search at http://" in capsys.readouterr().err


def test_a_port_that_is_taken_is_refused_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("apr.policy.load_policy", lambda *_, **__: pytest.fail("a model is loaded"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--threads", "--port", port]) == 2
    assert f"127.0.0.1:{port} cannot be had" in capsys.readouterr().err
