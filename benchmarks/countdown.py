"""Rust against its plain Python twins: traces, problems, checks; the solver's times; two threads against one."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from itertools import count
from statistics import mean, median

import apr
from apr._core import ProblemStream
from benchmarks import twin
from benchmarks.measure import Result, compare, one_core

PROMISING = 0.9


def _problems(n: int, numbers: int = 4) -> list[apr.Problem]:
    return list(apr.problems(n, 1, numbers=numbers))


def _widths(n: int) -> list[tuple[int, int]]:
    """Beams as the paper's data has them: the main thread's up to 10, a child's from that to 15."""
    draw = random.Random(1)
    return [(beam, draw.randint(beam, 15)) for beam in (draw.randint(1, 10) for _ in range(n))]


def traces(rounds: int) -> list[Result]:
    """APR searches of the same problems at the same widths, texts included."""
    work = list(zip(_problems(60), _widths(60), strict=True))
    seeds = count()

    def slow() -> int:
        for problem, (beam, child_beam) in work:
            search = twin.Search(problem.target, child_beam, PROMISING, twin.Drawn(next(seeds)))
            search.run(problem.numbers, beam)
        return len(work)

    def fast() -> int:
        for problem, (beam, child_beam) in work:
            apr.search(
                problem, "apr", seed=next(seeds), beam_size=beam, child_beam_size=child_beam, promising=PROMISING
            )
        return len(work)

    with one_core():
        ratio, slow_rate, fast_rate = compare(slow, fast, rounds)
    detail = f"{fast_rate:,.0f} against {slow_rate:,.0f} traces/s"
    return [Result("traces", "APR traces, one core, against plain Python", ratio, "x", 50, True, detail)]


def problems(rounds: int) -> list[Result]:
    """Solvable problems of four numbers."""
    draw, starts = random.Random(1), count(0, 500)
    stream = ProblemStream(1)

    def slow() -> int:
        for _ in range(20):
            twin.problem(draw)
        return 20

    def fast() -> int:
        return len(stream.get(next(starts), 500))

    with one_core():
        ratio, slow_rate, fast_rate = compare(slow, fast, rounds, 0.3)
    detail = f"{fast_rate:,.0f} against {slow_rate:,.0f} problems/s"
    return [Result("problems", "problems, one core, against plain Python", ratio, "x", 100, True, detail)]


def checks(rounds: int) -> list[Result]:
    """Strict judgements of solutions as joins leave them."""
    claims = []
    for problem in _problems(150):
        trace = apr.search(problem, "apr", beam_size=10, child_beam_size=10)
        result = apr.search_result(trace.text)
        if result is not None:
            claims.append((trace.main_calls[0], result))

    def slow() -> int:
        return sum(twin.check_solution(prompt, text) for prompt, text in claims)

    def fast() -> int:
        return sum(apr.check_solution(prompt, text).correct for prompt, text in claims)

    with one_core():
        ratio, slow_rate, fast_rate = compare(slow, fast, rounds)
    detail = f"{fast_rate:,.0f} against {slow_rate:,.0f} checks/s"
    return [Result("checks", "checks of solutions, one core, against plain Python", ratio, "x", 20, True, detail)]


def solve(rounds: int) -> list[Result]:
    """Processor time of single calls."""
    four, six = _problems(400), _problems(5 + 2 * rounds, numbers=6)

    def each(call: object, work: list[apr.Problem]) -> list[float]:
        times = []
        for problem in work:
            numbers = problem.numbers
            start = time.process_time()
            call(numbers, problem.target)  # type: ignore[operator]
            times.append(time.process_time() - start)
        return times

    with one_core():
        return [
            Result("solve", "solve, four numbers, mean", mean(each(apr.solve, four)) * 1e6, "us", 50, False),
            Result("solve", "solve, six numbers, median", median(each(apr.solve, six)) * 1e3, "ms", 10, False),
            Result("solve", "solve_all, six numbers, median", median(each(apr.solve_all, six[:7])), "s", 0.5, False),
        ]


_STREAM = """
import time
from apr._core import Traces
traces = Traces(1, "apr", beam_size=(1, 10), child_beam_size=(10, 15), promising=0.9)
traces.get(0, 200)
wall, work = time.perf_counter(), time.process_time()
traces.get(200, 6000)
print(6000 / (time.perf_counter() - wall), (time.process_time() - work) / 6000)
"""


def threads(rounds: int) -> list[Result]:
    """The batch interface on one and on two threads, a process each, in turns, by the wall clock: it takes two idle
    cores. The processor time a trace costs on two threads, relative to one, says what sharing costs on any machine."""

    def stream(number: int) -> tuple[float, float]:
        environment = {**os.environ, "RAYON_NUM_THREADS": str(number)}
        done = subprocess.run(
            [sys.executable, "-c", _STREAM], env=environment, capture_output=True, text=True, check=True
        )
        traces_per_second, cost = map(float, done.stdout.split())
        return traces_per_second, cost

    pairs = [(stream(1), stream(2)) for _ in range(rounds)]
    ratio = median(two / one for (one, _), (two, _) in pairs)
    cost = median(two / one for (_, one), (_, two) in pairs)
    one_rate, two_rate = (median(pair[side][0] for pair in pairs) for side in (0, 1))
    detail = f"{two_rate:,.0f} against {one_rate:,.0f} traces/s; processor time a trace {cost:.2f} of one thread's"
    return [Result("threads", "traces, two threads against one", ratio, "x", 1.8, True, detail)]
