"""The terminal app on much: how soon and in how much memory a long log opens, and how it holds up under many threads.

Each runs in a process of its own, without a terminal: pictures are made and thrown away. Times are processor times, as
all of it is work on one core.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from apr.threads.events import Event, ThreadOpened, ThreadSpawned, TokensSampled, read_events, to_json
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
    pace = f"at {RATE:,} events/s"
    return [
        Result("tui", "a long log is on screen", median(o["seconds"] for o in opened), "s", 3.0, False, detail),
        Result("tui", "memory with it open", max(o["megabytes"] for o in opened), "MB", 500.0, False),
        Result("tui", f"pictures, {THREADS} threads", median(r["frames"] for r in live), "/s", 10.0, True, pace),
        Result("tui", "a key is answered, worst", max(r["answer"] for r in live), "ms", 100.0, False),
    ]


def _recorded() -> list[Event]:
    """The events of one real rollout."""
    path = Path(__file__).parents[1] / "tests" / "golden" / "two_searches.jsonl"
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
    from apr_tui.app import AprApp
    from apr_tui.solve import SearchScreen
    from apr_tui.track import Track

    async def look() -> float:
        begin = time.process_time()
        screen = SearchScreen([Track.of_log(Path(path))])
        app = AprApp(screen)
        async with app.run_test(size=SIZE) as pilot:
            while True:
                await pilot.pause(0.01)
                view, feed = screen.track.state.view, screen.track.feed
                behind = getattr(feed, "behind", False)
                if view is not None and view.tree.finished is not None and not behind:
                    return time.process_time() - begin

    seconds = asyncio.run(look())
    print(json.dumps({"seconds": seconds, "megabytes": _most_memory()}))


def _most_memory() -> float:
    """Megabytes this process held at most."""
    status = Path("/proc/self/status")
    if status.exists():
        # What getrusage says counts the process that started this one too.
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1000
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def _growing() -> tuple[list[Event], list[Event]]:
    """A rollout of many threads that all grow: how it begins, and a second of what it samples."""
    recorded = _recorded()
    start, opened = recorded[0], next(event for event in recorded if isinstance(event, ThreadOpened))
    chunks = [event for event in recorded if isinstance(event, TokensSampled) and len(event.token_ids) > 5]
    children = tuple(f"0.{i}" for i in range(THREADS - 1))
    spawn = ThreadSpawned(rollout=start.rollout, time=0.0, thread="0", children=children)
    head = [start, opened, spawn, *(replace(opened, thread=child, parent="0", depth=1) for child in children)]
    second = [replace(chunks[i % len(chunks)], thread=children[i % len(children)], time=i / RATE) for i in range(RATE)]
    return head, second


def _live(frames: str = "20") -> None:
    """Two frames a turn, each with its share of the events, one of them with a key, until the threads are as long as
    the shipped model's context."""
    from apr_tui import base
    from apr_tui.app import AprApp
    from apr_tui.log import Library
    from apr_tui.solve import SearchScreen
    from apr_tui.state import fold_all
    from apr_tui.threads import ThreadList
    from apr_tui.track import Track

    share = round(RATE * base.FRAME)
    base.FRAME = 1e6

    async def look() -> dict[str, float]:
        track = Track(Library(Path("nowhere")))
        screen = SearchScreen([track])
        app = AprApp(screen)
        pictures: list[float] = []
        answers: list[float] = []
        async with app.run_test(size=SIZE) as pilot:
            head, second = _growing()
            track.state = fold_all(track.state, head)
            screen.tick(0.0)
            await pilot.pause()
            threads = screen.query_one(ThreadList)
            for frame in range(int(frames)):
                at = frame * share % (RATE - share)
                begin = time.process_time()
                app.simulate_key("down")
                track.state = fold_all(track.state, second[at : at + share])
                screen.tick(0.0)
                await pilot.pause()
                answers.append(1000 * (time.process_time() - begin))
                assert threads.cursor == frame + 1
                begin = time.process_time()
                track.state = fold_all(track.state, second[at : at + share])
                screen.tick(0.0)
                await pilot.pause()
                pictures.append(time.process_time() - begin)
        return {"frames": 1 / median(pictures), "answer": max(answers)}

    print(json.dumps(asyncio.run(look())))
