"""The server's own page, in a real browser: what it asks, draws and shows, and what it never does."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("starlette")

from starlette.testclient import TestClient

from apr import Tokenizer
from apr.countdown.language import Traces
from apr.countdown.task import Countdown
from apr.policy import Policy
from apr.report.recorded import rollouts
from apr.serving import thread_server
from apr.testing.scripted import ScriptedEngine
from apr.threads.events import CallFinished, Event, to_json
from apr.threads.lanes import critical
from apr.threads.marks import mark_of
from browsing import Visit
from recorded import APR
from test_serving import KEY, PROMPT, serving
from tiny import SOLVED, teacher_policy

HOSTILE = "<img src=x onerror='document.title=1'><script>document.title=1</script>\u202e&lt;b&gt;"
TYPED = [" ".join(map(str, SOLVED.numbers)), str(SOLVED.target)]


def status(visit: Visit, words: str) -> None:
    visit.page.wait_for_function("words => document.getElementById('status').textContent.startsWith(words)", arg=words)


def focus(visit: Visit) -> dict[str, str]:
    found: dict[str, str] = visit.page.evaluate(
        "() => ({name: document.activeElement.name, role: document.activeElement.getAttribute('role'), "
        "thread: document.activeElement.dataset.thread})"
    )
    return found


def tab_to(visit: Visit, **wanted: str) -> None:
    for _ in range(30):
        visit.page.keyboard.press("Tab")
        if wanted.items() <= focus(visit).items():
            return
    raise AssertionError(f"no tab leads to {wanted}")


def test_a_problem_is_solved_by_keys_alone(browser: Any) -> None:
    with serving(teacher_policy()) as url:
        visit = Visit(browser)
        visit.page.goto(url.removesuffix("v1"))
        for text in TYPED:
            visit.page.keyboard.press("Tab")
            assert focus(visit)["name"] == "field"
            visit.page.keyboard.press("Control+A")
            visit.page.keyboard.type(text)
        visit.page.keyboard.press("Enter")
        status(visit, "solved: ")
        rows = visit.page.query_selector_all("[role=treeitem]")
        assert len(rows) > 3
        assert all(row.query_selector(".bar .decode") is not None for row in rows)
        assert len(visit.page.query_selector_all(".bar .chain")) == 2
        assert rows[0].query_selector(".sign").inner_text() == "✓"
        tab_to(visit, role="treeitem", thread="0")
        assert "Current State: 27:[22, 26, 31, 53]" in visit.page.inner_text("#text")
        visit.page.keyboard.press("ArrowDown")
        assert focus(visit)["thread"] == "0.0"
        assert visit.page.inner_text("#caption").startswith("0.0: ")
        visit.page.keyboard.press("End")
        assert focus(visit)["thread"] == f"0.{len(rows) - 2}"
        assert visit.hosts == {url.split("/")[2]}
        assert not visit.complaints


def test_a_key_is_asked_for(browser: Any) -> None:
    with serving(teacher_policy(), api_key=KEY) as url:
        visit = Visit(browser)
        visit.page.goto(url.removesuffix("v1"))
        assert not visit.page.is_visible("#key")
        visit.page.click("button[type=submit]")
        status(visit, "the server asks for an API key")
        assert focus(visit)["name"] == "key"
        visit.page.keyboard.type("wrong")
        visit.page.keyboard.press("Enter")
        status(visit, "the server refuses this API key")
        visit.page.keyboard.press("Control+A")
        visit.page.keyboard.type(KEY)
        visit.page.keyboard.press("Enter")
        status(visit, "solved: ")


def test_what_a_model_writes_is_text(browser: Any) -> None:
    engine = ScriptedEngine([f"{PROMPT}\n{HOSTILE}"], Tokenizer())
    with serving(Policy(engine, Countdown("apr"), Traces("apr"), "apr")) as url:
        visit = Visit(browser)
        visit.page.goto(url.removesuffix("v1"))
        title = visit.page.title()
        visit.page.click("button[type=submit]")
        status(visit, "unsolved: ")
        shown = visit.page.text_content("#text")
        assert shown.endswith(HOSTILE.replace("\u202e", "·"))
        assert visit.page.query_selector_all("img, #search script, #search b") == []
        assert visit.page.title() == title
        assert not visit.complaints
        # A script that came in nevertheless would not run.
        visit.page.evaluate("html => document.body.insertAdjacentHTML('beforeend', html)", HOSTILE)
        visit.page.wait_for_timeout(200)
        assert visit.page.title() == title


def test_a_search_is_stopped(browser: Any) -> None:
    with serving(teacher_policy(seconds_per_token=0.05)) as url:
        visit = Visit(browser)
        visit.page.goto(url.removesuffix("v1"))
        visit.page.click("button[type=submit]")
        visit.page.wait_for_selector("[role=treeitem]")
        visit.page.keyboard.press("Escape")
        status(visit, "stopped")
        assert visit.page.is_disabled("#stop")


@pytest.mark.parametrize("told", [True, False])
def test_the_page_folds_as_the_package_does(browser: Any, told: bool) -> None:
    """Of a real rollout, whole and cut short, and of an engine that tells nothing."""
    events = APR
    if not told:
        events = [replace(event, timing=()) if isinstance(event, CallFinished) else event for event in events]
    with serving(teacher_policy()) as url:
        page = Visit(browser).page
        page.goto(url.removesuffix("v1"))
        for count in (len(events), len(events) // 2, 40):
            assert page.evaluate(_FOLD, [json.loads(to_json(event)) for event in events[:count]]) == folded(
                events[:count]
            )


_FOLD = """events => {
  const rollout = new Rollout();
  for (const event of events) rollout.apply(event);
  const threads = rollout.ordered().map(thread => [thread.id, rollout.mark(thread), thread.tokens, thread.text,
    thread.until(rollout.seconds), thread.spawns, thread.joins]);
  return {chain: [...rollout.chain()].sort(), threads};
}"""


def folded(events: list[Event]) -> dict[str, Any]:
    [rollout] = rollouts(events)
    tree, lanes = rollout.tree, rollout.lanes
    threads = [
        [
            *(thread.id, mark_of(tree, thread), thread.sampled_tokens, thread.text),
            [list(span) for span in lanes[thread.id].until(rollout.seconds)],
            *(list(lanes[thread.id].spawns), list(lanes[thread.id].joins)),
        ]
        for thread in tree.ordered()
    ]
    return {"chain": sorted(critical(tree, lanes)), "threads": threads}


def test_light_and_dark(browser: Any) -> None:
    with serving(teacher_policy()) as url:
        colours = []
        for scheme in ("light", "dark"):
            page = Visit(browser, color_scheme=scheme).page
            page.goto(url.removesuffix("v1"))
            colours.append(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
        assert colours == ["rgb(255, 255, 255)", "rgb(13, 17, 23)"]


# ---- without a browser


@pytest.fixture
def client() -> TestClient:
    return TestClient(thread_server(teacher_policy(), "a <b>", api_key=KEY))


def test_the_page_is_as_its_task_asks(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert "<h1>a &lt;b&gt;</h1>" in page.text
    assert 'value="22 26 31 53"' in page.text
    assert 'title="the number to reach"' in page.text
    easy = client.get("/?kind=easy").text
    assert 'value="22 26 31 53"' not in easy
    assert client.get("/?kind=<script>").text == page.text
    assert "script-src" in client.get("/page.js").headers["content-security-policy"]
    assert ".timeline .decode" in client.get("/page.css").text


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        ({"apr": {"fields": "22"}}, "apr.fields: a list of 2 texts"),
        ({"apr": {"fields": ["22"]}}, "apr.fields: a list of 2 texts"),
        ({"apr": {"fields": ["22", 5]}}, "apr.fields: a list of 2 texts"),
        ({"apr": {"fields": ["1 a", "5"]}}, "numbers: 'a' is not a whole number"),
        ({"apr": {"fields": TYPED}, "prompt": PROMPT}, "apr.fields: in place of a prompt"),
    ],
    ids=str,
)
def test_what_no_problem_is_typed_as_is_refused(client: TestClient, ask: dict[str, Any], reason: str) -> None:
    answer = client.post("/v1/completions", json=ask, headers={"Authorization": f"Bearer {KEY}"})
    assert answer.status_code == 400
    assert reason in answer.json()["error"]["message"]


def test_what_is_typed_is_what_is_prompted(client: TestClient) -> None:
    asks: list[dict[str, Any]] = [{"apr": {"fields": TYPED}}, {"prompt": PROMPT}]
    typed, prompted = (
        client.post("/v1/completions", json={**ask, "temperature": 0}, headers={"Authorization": f"Bearer {KEY}"})
        for ask in asks
    )
    assert typed.json()["choices"] == prompted.json()["choices"]
