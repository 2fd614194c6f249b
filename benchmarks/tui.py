"""The terminal app on much: how soon and in how much memory a long log opens, and how it holds up under many threads.

Each runs in a process of its own, without a terminal: pictures are made and thrown away.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import replace
from importlib import resources
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from apr.events import Event, ThreadOpened, ThreadSpawned, TokensSampled, read_events, to_json
from apr_tui.feed import Solve
from benchmarks.measure import Result

EVENTS = 1_000_000
THREADS, RATE = 256, 20_000
SIZE = (120, 40)


def tui(rounds: int) -> list[Result]:
    """A log of a million events; then 256 threads that grow at 20,000 events a second."""
    with TemporaryDirectory() as folder:
        log = Path(folder) / "events.jsonl"
        count = _write(log)
        opened = [_apart("_open", str(log)) for _ in range(min(rounds, 3))]
        detail = f"{count:,} events, {log.stat().st_size / 1e6:.0f} MB"
    live = [_apart("_live") for _ in range(min(rounds, 3))]
    return [
        Result("tui", "a long log is on screen", median(o["seconds"] for o in opened), "s", 3.0, False, detail),
        Result("tui", "memory with it open", max(o["megabytes"] for o in opened), "MB", 500.0, False),
        Result("tui", f"pictures, {THREADS} threads", median(r["frames"] for r in live), "/s", 10.0, True, _rate(live)),
        Result("tui", "a key is answered, worst", max(r["answer"] for r in live), "ms", 100.0, False),
    ]


def _rate(live: list[dict[str, float]]) -> str:
    return f"{median(r['taken'] for r in live):,.0f} events/s"


def _recorded() -> list[Event]:
    """The events of one real rollout."""
    path = Path(str(resources.files("apr_tui") / "demo.jsonl"))
    events = list(read_events(path))
    return [event for event in events if event.rollout == events[0].rollout]


def _write(path: Path) -> int:
    """One rollout over and over, under other names, until there are enough events."""
    events = _recorded()
    mark = json.dumps(events[0].rollout)
    lines = "".join(to_json(event) + "\n" for event in events)
    copies = -(-EVENTS // len(events))
    with path.open("w") as file:
        for i in range(copies):
            file.write(lines.replace(f'"rollout":{mark}', f'"rollout":"r{i}"'))
    return copies * len(events)


def _apart(what: str, *arguments: str) -> dict[str, float]:
    code = f"import sys; from benchmarks import tui; tui.{what}(*sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    said: dict[str, float] = json.loads(done.stdout)
    return said


def _open(path: str) -> None:
    """From before the app is made to its first picture of the last rollout, whole."""
    import resource

    from apr_tui.app import AprApp
    from apr_tui.solve import SearchScreen
    from apr_tui.track import Track

    async def look() -> float:
        begin = time.perf_counter()
        screen = SearchScreen([Track.of_log(Path(path))])
        app = AprApp(screen)
        async with app.run_test(size=SIZE) as pilot:
            while True:
                await pilot.pause(0.01)
                view, feed = screen.track.state.view, screen.track.feed
                behind = getattr(feed, "behind", False)
                if view is not None and view.tree.finished is not None and not behind:
                    return time.perf_counter() - begin

    seconds = asyncio.run(look())
    print(json.dumps({"seconds": seconds, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000}))


class _Stream(Solve):
    """A rollout of many threads that all grow: events come at a steady rate, whoever takes them."""

    def __init__(self) -> None:
        recorded = _recorded()
        start, opened = recorded[0], next(e for e in recorded if isinstance(e, ThreadOpened))
        self._chunks = [e for e in recorded if isinstance(e, TokensSampled) and len(e.token_ids) > 5][:50]
        children = tuple(f"0.{i}" for i in range(THREADS - 1))
        opens = [replace(opened, thread=child, parent="0", depth=1) for child in children]
        self._head: list[Event] = [
            start,
            opened,
            ThreadSpawned(rollout=start.rollout, time=0.0, thread="0", children=children),
        ]
        self._head += opens
        self._children = children
        self._begin = time.perf_counter()
        self.taken = 0
        self.context = None

    def take(self) -> tuple[Event, ...]:
        now = time.perf_counter() - self._begin
        batch: list[Event] = [*self._head]
        self._head = []
        for i in range(self.taken, int(now * RATE)):
            chunk = self._chunks[i % len(self._chunks)]
            batch.append(replace(chunk, thread=self._children[i % len(self._children)], time=now))
        self.taken = int(now * RATE)
        return tuple(batch)

    @property
    def ended(self) -> bool:
        return False


def _live(seconds: str = "4") -> None:
    from apr_tui.app import AprApp
    from apr_tui.log import Library
    from apr_tui.solve import SearchScreen
    from apr_tui.threads import ThreadList
    from apr_tui.track import Track

    async def look() -> dict[str, float]:
        screen = SearchScreen([Track(Library(Path("nowhere")))])
        app = AprApp(screen)
        frames = 0
        drawn = screen.draw

        def draw() -> None:
            nonlocal frames
            frames += 1
            drawn()

        screen.draw = draw  # type: ignore[method-assign]
        answers: list[float] = []
        async with app.run_test(size=SIZE) as pilot:
            await pilot.pause()
            stream = _Stream()
            screen.track.feed = stream
            await pilot.pause(0.5)
            begin, frames = time.perf_counter(), 0
            taken = stream.taken
            while time.perf_counter() - begin < float(seconds):
                await asyncio.sleep(0.1)
                threads = screen.query_one(ThreadList)
                before, pressed = threads.cursor, time.perf_counter()
                app.simulate_key("down")
                while threads.cursor == before:
                    await asyncio.sleep(0)
                answers.append(1000 * (time.perf_counter() - pressed))
            passed = time.perf_counter() - begin
            return {"frames": frames / passed, "answer": max(answers[1:]), "taken": (stream.taken - taken) / passed}

    print(json.dumps(asyncio.run(look())))
