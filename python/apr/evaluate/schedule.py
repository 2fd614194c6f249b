"""How long a rollout's threads would take on a number of processors: a simulation, in tokens.

Each processor decodes one thread at a time, and all at one speed. Threads that are ready begin in the order in which
they became so; a parent gives its processor back while its children run.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from apr.threads.tree import MAIN, Thread, ThreadTree

WORKERS = (2, 4, 8, 16)
"""Processors for which a rollout's time is simulated."""


def makespan(tree: ThreadTree, workers: int) -> int:
    """Tokens decoded one after another, from the first to the last, on so many processors.

    One processor: the total tokens; as many as threads: the sequential ones. ValueError without a processor."""
    if workers < 1:
        raise ValueError(f"{workers} processors")
    stretches = {thread.id: _stretches(thread) for thread in tree.threads.values()}
    begun = dict.fromkeys(tree.threads, 0)
    waiting: dict[str, int] = {}
    running: list[tuple[int, int, str]] = []
    ready = deque([MAIN] if MAIN in tree.threads else [])
    now = count = 0
    while ready or running:
        while ready and len(running) < workers:
            thread_id = ready.popleft()
            count += 1
            heappush(running, (now + stretches[thread_id][begun[thread_id]], count, thread_id))
            begun[thread_id] += 1
        now, _, ended = heappop(running)
        following: str | None = ended
        while following is not None:
            thread = tree.threads[following]
            rounds = thread.rounds[begun[following] - 1 : begun[following]]
            children = [child for spawn in rounds for child in spawn.children if child in tree.threads]
            if following == ended and children:
                waiting[following] = len(children)
                ready.extend(children)
                break
            if begun[following] < len(stretches[following]):
                ready.append(following)
                break
            following = thread.parent
            if following is not None:
                waiting[following] -= 1
                if waiting[following]:
                    break
    return now


def _stretches(thread: Thread) -> list[int]:
    """Tokens sampled before the first join, between joins, and after the last."""
    stretches = [0]
    for call in thread.calls:
        if call.cause == "join":
            stretches.append(0)
        stretches[-1] += len(call.sampled) + call.dropped
    return stretches
