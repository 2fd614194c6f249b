"""The thread server as any OpenAI client sees it, and as a hostile one does."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("starlette")
openai = pytest.importorskip("openai")

import uvicorn  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from apr._core import check_solution, prompt  # noqa: E402
from apr.engine.scripted import Fault  # noqa: E402
from apr.engine.server import free_port  # noqa: E402
from apr.events import from_json  # noqa: E402
from apr.limits import Limits  # noqa: E402
from apr.policy import Policy  # noqa: E402
from apr.serving import ServingLimits, thread_server  # noqa: E402
from apr.tree import ThreadTree  # noqa: E402
from tiny import SOLVED, teacher_policy  # noqa: E402

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


def test_models_are_listed(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["teacher"]


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
    ],
)
def test_what_cannot_be_served_is_refused(raw: TestClient, body: bytes, status: int) -> None:
    answer = raw.post("/v1/completions", content=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_a_key_is_asked_for() -> None:
    with TestClient(thread_server(teacher_policy(), "teacher", api_key=KEY)) as made:
        body = {"prompt": PROMPT, "temperature": 0}
        assert made.post("/v1/completions", json=body).status_code == 401
        assert made.get("/v1/models", headers={"Authorization": "Bearer other"}).status_code == 401
        assert made.post("/v1/completions", json=body, headers={"Authorization": f"Bearer {KEY}"}).status_code == 200


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
