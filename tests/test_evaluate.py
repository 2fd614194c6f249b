"""The evaluator: figures that are right, the same at any concurrency, and engine failures apart."""

from __future__ import annotations

import asyncio
import gzip
import json
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

import apr
from apr import Problem, llama2_tokens
from apr.cli import main
from apr.countdown.task import Countdown
from apr.evaluate.metrics import llama2_equivalents, summarise
from apr.evaluate.problems import read_problems, split_problems
from apr.evaluate.protocol import Condition, Protocol, read_protocol
from apr.evaluate.rollouts import run_protocol
from apr.evaluate.rows import Rows, read_rows
from apr.evaluate.setting import Setting, count_parameters, machine, note_setting, read_setting
from apr.evaluate.statistics import wilson
from apr.testing.scripted import Fault
from apr.train.recipes import recipe_text
from rows import made_row
from tiny import SOLVED, save_tiny_model, teacher_policy

TIMELESS = (
    "correct",
    "failed",
    "reason",
    "answer",
    "total_tokens",
    "sequential_tokens",
    "context",
    "seed",
    "ends",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("transformers")
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def run(problems: list[Problem], protocol: Protocol | None = None, *faults: Fault) -> tuple[dict, list[dict]]:
    protocol = protocol or Protocol()
    policy = teacher_policy(problems, faults=faults)
    with Rows(protocol) as rows:
        asyncio.run(run_protocol(protocol, problems, rows.append, load=lambda *_, **__: policy))
    return summarise(rows.rows), rows.rows


def timeless(rows: list[dict]) -> list[dict]:
    return [{name: row[name] for name in TIMELESS} for row in rows]


def test_teacher_is_as_good_as_it_is() -> None:
    problems = split_problems(Countdown(), 20, "test", 0)
    summary, rows = run(problems)
    solved = [apr.search(problem, "apr", seed=1, beam_size=6, promising=1.0).solved for problem in problems]
    assert [row["correct"] for row in rows] == solved
    assert [row["index"] for row in rows] == list(range(20))
    assert summary["accuracy"] == sum(solved) / 20
    assert (summary["accuracy_low"], summary["accuracy_high"]) == wilson(sum(solved), 20)
    assert summary["threads_max"] == 7
    assert sum(summary["reasons"].values()) == pytest.approx(1)
    assert 0 < summary["cached_share"] < 1


@pytest.mark.parametrize("concurrency", [2, 7, 99, 2**62])
def test_concurrency_changes_nothing(concurrency: int) -> None:
    problems = split_problems(Countdown(), 12, "test", 1)
    _, alone = run(problems, Protocol(concurrency=1))
    _, many = run(problems, Protocol(concurrency=concurrency))
    assert timeless(alone) == timeless(many)


def test_engine_failures_are_no_wrong_answers() -> None:
    problems = [SOLVED, *split_problems(Countdown(), 3, "test", 2)]
    head = " ".join(map(str, problems[1].numbers)).replace(" ", ", ")
    summary, rows = run(problems, None, Fault(f"[{head}]", "error", after=5))
    assert rows[1]["correct"] is None
    assert rows[1]["failed"]
    assert summary["engine_failures"] == 1
    assert summary["judged"] == 3
    assert summary["accuracy"] == summary["correct"] / 3
    assert summary["reasons"]["engine_error"] == 0.25


def test_nothing_judged() -> None:
    summary, _ = run([SOLVED], None, Fault("", "error"))
    assert summary["accuracy"] is None
    assert (summary["accuracy_low"], summary["accuracy_high"]) == (0.0, 1.0)


def test_llama2_equivalents_are_those_of_the_text() -> None:
    trace = apr.search(SOLVED, "apr", seed=1, beam_size=6, promising=1.0)
    policy = teacher_policy()
    tree = apr.run_threads(SOLVED, policy.engine, task=policy.task, language=policy.language)
    found = llama2_equivalents(tree, policy.language.text)
    before, after = trace.main_calls
    prompt = policy.task.prompt(SOLVED, None)
    children = [child.main_calls[0] for child in trace.children[0]]
    prompts = [tree.threads[i].prompt_text for i in tree.main.children]
    own = [llama2_tokens(text.removeprefix(p)) for text, p in zip(children, prompts, strict=True)]
    joined = len(policy.language.text(tree.main.branches()[1][0].token_ids))
    main_tokens = llama2_tokens(before.removeprefix(prompt)) + llama2_tokens(after[joined:])
    assert found.total_tokens == main_tokens + sum(own)
    assert found.sequential_tokens == main_tokens + max(own)
    assert found.context == max(llama2_tokens(text) for text in (before, after, *children)) + 2


def test_summary_means_and_maxima() -> None:
    rows = [made_row(i, right, cost=cost) for i, (right, cost) in enumerate([(True, 10), (False, 30), (None, 999)])]
    summary = summarise([{**row, "prompt_tokens": 10, "cached_tokens": 5} for row in rows])
    assert (summary["total_tokens"], summary["total_tokens_max"]) == (20, 30)
    assert summary["cached_share"] == 0.5
    assert summary["accuracy"] == 0.5


def test_split_problems_are_distinct() -> None:
    task = Countdown(numbers=(3, 3))
    for split in ("train", "val", "test"):
        found = split_problems(task, 1500, split, 0)
        keys = {(tuple(sorted(p.numbers)), p.target) for p in found}
        assert len(keys) == len(found) == 1500
        assert [(p.numbers, p.target) for p in split_problems(task, 9, split, 0)] == [
            (p.numbers, p.target) for p in found[:9]
        ]


def test_read_problems(tmp_path: Path) -> None:
    file = tmp_path / "problems.jsonl"
    file.write_text('{"numbers": [1, 2], "target": 3}\n\n{"numbers": [22, 26, 31, 53], "target": 27}\n')
    assert [p.target for p in read_problems(Countdown(), file)] == [3, 27]
    entries = [{"nums": [1, 2], "target": 3, "solution": "1+2=3"}, {"nums": [22, 26, 31, 53], "target": 27}]
    file.write_text(json.dumps(entries, indent=1))
    assert [p.numbers for p in read_problems(Countdown(), file)] == [[1, 2], [22, 26, 31, 53]]


LINE = '{"numbers": [1, 2], "target": 3}\n'


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + LINE.encode(),
        LINE.replace("\n", "\r\n").encode() * 2,
        LINE.replace("\n", "\r").encode() * 2,
        LINE.replace("}", ', "note": "\u2028"}').encode(),
        b"\xef\xbb\xbf[\r\n" + LINE.encode() + b"]",
    ],
    ids=["mark", "crlf", "cr", "separator", "list"],
)
def test_problems_are_read_however_text_was_saved(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "p.jsonl").write_bytes(data)
    assert {(tuple(p.numbers), p.target) for p in read_problems(Countdown(), tmp_path / "p.jsonl")} == {((1, 2), 3)}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("[]", "has no problems"),
        ("", "has no problems"),
        ("[7]", "entry 1: not a problem: no object"),
        ("[", ": not JSON: Expecting value at"),
        ('[{"nums": [1, 2], "target": 3},]', ": not JSON: "),
        (LINE + "x", "line 2: not JSON: Expecting value at column 1"),
        (LINE + '{"numbers": [1, 2 "target": 3}', "line 2: not JSON: Expecting ',' delimiter at column 19"),
        ('{"numbers": [1, 2], "target": NaN}', "line 1: not JSON: NaN"),
        ("[" * 100_000, "nests too deep"),
        ('{"a":' * 100_000, "line 1: .*nests too deep"),
        ("{}", "line 1: not a problem: its numbers are no list of integers"),
        ('{"numbers": [1, 2]}', "its target is no integer"),
        ('{"numbers": "ab", "target": 1}', "its numbers are no list of integers"),
        ('{"numbers": {"1": 2}, "target": 1}', "its numbers are no list of integers"),
        ('{"nums": 1}', "its numbers are no list of integers"),
        ('{"numbers": [true, 2], "target": 3}', "its numbers are no list of integers"),
        ('{"numbers": [1, 2.0], "target": 3}', "its numbers are no list of integers"),
        ('{"numbers": [1, 2], "target": true}', "its target is no integer"),
        ('{"numbers": [], "target": 3}', "line 1: not a problem: a problem has 1 to 6 numbers"),
        ('{"numbers": [-1, 2], "target": 3}', "numbers are not negative"),
        (LINE.encode("utf-16"), "is UTF-16"),
        (LINE.encode("utf-32"), "is UTF-32"),
        (LINE.encode("utf-16-be"), "line 1: not JSON"),
        (gzip.compress(LINE.encode(), mtime=0), "is gzip"),
        (b"PAR1\0\0", "is Parquet"),
        (LINE.encode() + b"\xff\n", "is not UTF-8 text: byte 34 is 0xff"),
    ],
)
def test_what_is_no_problem_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: str | bytes, says: str
) -> None:
    file = tmp_path / "p.jsonl"
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(ValueError, match=f"{file}.*{says}"):
        read_problems(Countdown(), file)
    assert main(["eval", "--problems", str(file)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"apr eval: --problems: {file}")
    assert len(err.splitlines()) == 1


def evaluate_by_command(model: str, out: Path, *options: str) -> list[dict[str, Any]]:
    words = ["eval", "--problems", "6", "--model", model, "--temperature", "1", "--out", str(out), *options]
    assert main(words) == 0
    return read_rows(out)[1]


def test_command_is_the_same_at_any_concurrency(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = evaluate_by_command(model, tmp_path / "a", "--concurrency", "1", "--budget", "3")
    many = evaluate_by_command(model, tmp_path / "b", "--budget", "3", "--json")
    assert timeless(alone) == timeless(many)
    other = evaluate_by_command(model, tmp_path / "c", "--budget", "3", "--seed", "1")
    assert timeless(other) != timeless(alone)
    out, err = capsys.readouterr()
    summary = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    assert summary["accuracy"] == 0
    assert summary["problems"] == summary["judged"] == 6
    assert summary["budget"] == 3
    assert sum(summary["reasons"].values()) == pytest.approx(1)
    assert "6/6" in err
    assert "accuracy" in out


def test_command_reads_a_file(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "problems.jsonl"
    assert main(["problems", "-n", "3", "--json"]) == 0
    file.write_text(capsys.readouterr().out)
    assert main(["eval", "--problems", str(file), "--model", model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == 3


def interrupted(problems: list[Problem], protocol: Protocol, directory: Path, after: int) -> None:
    """Run until so many rows are written."""
    policy = teacher_policy(problems)

    class Stop(Exception):
        pass

    with Rows(protocol, directory) as rows:

        def watch(row: dict[str, Any]) -> None:
            if len(rows.rows) == after:
                raise Stop
            rows.append(row)

        with pytest.raises(Stop):
            asyncio.run(run_protocol(protocol, problems, watch, done=rows.done, load=lambda *_, **__: policy))


def test_a_stopped_evaluation_goes_on(tmp_path: Path) -> None:
    problems = split_problems(Countdown(), 5, "test", 1)
    protocol = Protocol(conditions=(Condition(samples=2), Condition(temperature=0.5)), concurrency=3)
    _, whole = run(problems, protocol)
    expected = [(0, 0, i) for i in range(5)] + [(0, 1, i) for i in range(5)] + [(1, 0, i) for i in range(5)]
    assert [(row["condition"], row["sample"], row["index"]) for row in whole] == expected
    for after in (3, 8, 11):
        interrupted(problems, protocol, tmp_path, after)
        # Half a line, as a kill leaves it.
        with (tmp_path / "rows.jsonl").open("a") as file:
            file.write('{"condition": 0, "sam')
    policy = teacher_policy(problems)
    with Rows(protocol, tmp_path) as rows:
        assert len(rows.rows) == 11
        asyncio.run(run_protocol(protocol, problems, rows.append, done=rows.done, load=lambda *_, **__: policy))
    assert read_rows(tmp_path)[0] == protocol
    assert timeless(read_rows(tmp_path)[1]) == timeless(whole)


def test_recipes_expand_lists() -> None:
    protocol = read_protocol(
        """
        seed = 3
        [problems]
        count = 7
        [[conditions]]
        method = "apr"
        budgets = ["free", 0, 4]
        [[conditions]]
        method = "apr"
        models = ["before", "after"]
        budgets = [10]
        [[conditions]]
        method = "sos+"
        model = "elsewhere"
        budget = 4096
        temperatures = [0, 0.5]
        samples = 8
        """
    )
    assert protocol.seed == 3
    assert protocol.problems.count == 7
    assert [(c.method, c.budget, c.temperature, c.samples) for c in protocol.conditions] == [
        ("apr", None, 0, 1),
        ("apr", 0, 0, 1),
        ("apr", 4, 0, 1),
        ("apr", 10, 0, 1),
        ("apr", 10, 0, 1),
        ("sos+", 4096, 0, 8),
        ("sos+", 4096, 0.5, 8),
    ]

    assert [protocol.model_name(c) for c in protocol.conditions][3:6] == ["before", "after", "elsewhere"]
    assert protocol.model_name(protocol.conditions[0]) == "apr-tiny"
    # What ships for the task that is asked, and no other's.
    assert replace(protocol, task="sudoku").model_name(protocol.conditions[0]) == "sudoku-tiny"


BAD_RECIPES = [
    ("", r"a protocol needs \[\[conditions\]\]"),
    ("nonsense", "not TOML: "),
    ("x = " + "[" * 100_000, "nested too deep"),
    ("conditions = 3", "a protocol needs"),
    ("conditions = []", "a protocol needs"),
    ("conditions = [3]", "a protocol needs"),
    ("[[conditions]]\nbudgets = 3", "conditions.budgets: a list"),
    ("[[conditions]]\nbudgets = []", "conditions.budgets: a list"),
    ("[[conditions]]\nbudgets = ['many']", r"conditions\[0\].budget: 'many' is not a whole number"),
    ("[[conditions]]\nbudget = 1\nbudgets = [1]", "in place of budget"),
    ("[[conditions]]\nbudgets = [1, -3]", r"conditions\[1\].budget: -3 is not at least 0"),
    ("[[conditions]]\nmethod = 'magic'", r"conditions\[0\].method: 'magic'"),
    ("[[conditions]]\nsamples = 0", r"conditions\[0\].samples: 0 is not at least 1"),
    *(
        (f"[[conditions]]\ntemperature = {heat}", r"conditions\[0\].temperature: temperature is 0 or from 0.0001 to")
        for heat in (-1, 5e-5, 1e5)
    ),
    ("[[conditions]]\ntemperatures = [0, 1e-9]", r"conditions\[1\].temperature"),
    ("[[conditions]]\ntemperature = nan", r"conditions\[0\].temperature: nan is not a finite number"),
    ("concurrency = 0\n[[conditions]]", "concurrency: 0 is not at least 1"),
    ("max_tokens = 0\n[[conditions]]", "max_tokens: 0 is not at least 1"),
    ("max_threads = -1\n[[conditions]]", "max_threads: -1 is not at least 1"),
    ("seed = -1\n[[conditions]]", "seed: -1 is not at least 0"),
    ("extra = 0\n[[conditions]]", "unknown key extra"),
    ("problems = 3\n[[conditions]]", "problems: 3 is not a table"),
    ("[problems]\ncount = 0\n[[conditions]]", "problems.count: 0 is not at least 1"),
    ("[problems]\ncount = 'x'\n[[conditions]]", "problems.count: 'x' is not a whole number"),
    ("[problems]\nseed = -1\n[[conditions]]", "problems.seed: -1 is not at least 0"),
    ("[[conditions]]\nproblems = 0", r"conditions\[0\].problems: 0 is not at least 1"),
    ("[[conditions]]\nsamples = 'x'", r"conditions\[0\].samples: 'x' is not a whole number"),
    ("[[conditions]]\nconcurrency = 0", r"conditions\[0\].concurrency: 0 is not at least 1"),
    ("[[conditions]]\nmodels = 'one'", "conditions.models: a list"),
    ("[teacher]\nbeam_size = 3\n[[conditions]]", "unknown key beam_size"),
]


@pytest.mark.parametrize("how", [{}, {"quick": True}, {"count": 3}], ids=str)
@pytest.mark.parametrize(("text", "says"), BAD_RECIPES, ids=lambda text: text[:40])
def test_bad_recipes_are_refused(text: str, says: str, how: dict[str, Any]) -> None:
    quick = f"quick = {{ problems = 1, samples = 1 }}\n{text}"
    with pytest.raises(ValueError, match=says):
        read_protocol(quick, **how)


@pytest.mark.parametrize(
    ("quick", "says"),
    [
        ("3", "no quick form"),
        ("{ problems = 0, samples = 1 }", "quick.problems: 0 is not at least 1"),
        ("{ problems = 1, samples = 'x' }", "quick.samples: 'x' is not a whole number"),
        ("{ problems = 1 }", "missing key quick.samples"),
    ],
)
def test_a_quick_form_that_is_none_is_refused(quick: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_protocol(f"quick = {quick}\n[[conditions]]", quick=True)


def test_a_quick_form_is_a_short_one() -> None:
    text = """
        quick = { problems = 5, samples = 2 }
        [problems]
        count = 7
        [[conditions]]
        samples = 8
        problems = 6
        [[conditions]]
        problems = 3
        """
    quick = read_protocol(text, quick=True)
    assert quick.problems.count == 5
    assert [(c.samples, c.problems) for c in quick.conditions] == [(2, None), (1, 3)]
    assert read_protocol(text, quick=True, count=9).problems.count == 9


def test_files_are_shortened_too(tmp_path: Path) -> None:
    file = tmp_path / "problems.jsonl"
    task = Countdown()
    drawn = split_problems(task, 8, "test", 0)
    file.write_text("".join(json.dumps(task.to_json(problem)) + "\n" for problem in drawn))
    text = f"quick = {{ problems = 5, samples = 2 }}\nproblems.file = '{file}'\n[[conditions]]\n"
    for how, count in (({}, 8), ({"count": 3}, 3), ({"quick": True}, 5), ({"quick": True, "count": 6}, 6)):
        assert read_protocol(text, **how).problems.load(task) == drawn[:count]


def test_command_runs_a_recipe(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "two.toml"
    recipe.write_text(f"[problems]\ncount = 2\n[[conditions]]\nmodel = '{model}'\nbudgets = ['free', 3]\n")
    words = ["eval", "--recipe", str(recipe), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out.count("accuracy") == 2
    assert f"== apr, budget 3 ({model})\n" in out
    assert "4/4" in err
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "going on after 4 of 4" in err
    assert [c["budget"] for c in json.loads(out)["conditions"]] == [None, 3]
    # What is given counts, be it what goes without saying elsewhere.
    for option, value in (("--budget", "3"), ("--temperature", "0"), ("--join", "all")):
        assert main([*words, option, value]) == 2
        assert "the recipe's" in capsys.readouterr().err
    recipe.write_text(f"seed = 3\n{recipe.read_text()}")
    seeds = []
    for name, given in (("out", None), ("zero", "0"), ("three", None)):
        if name != "out":
            assert main([*words[:-1], str(tmp_path / name), *(["--seed", given] if given else [])]) == 0
        rows = (tmp_path / name / "rows.jsonl").read_text().splitlines()
        seeds.append([json.loads(row)["seed"] for row in rows])
    assert seeds[0] == seeds[1] != seeds[2]


def test_a_model_stands_in_for_the_shipped_one_of_its_method(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "both.toml"
    recipe.write_text("[problems]\ncount = 1\n[[conditions]]\n[[conditions]]\nmethod = 'sos+'\nbudget = 64\n")
    words = ["eval", "--recipe", str(recipe), "--model", model, "--out", str(tmp_path / "out")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert f"== apr, budget free ({model})\n" in out
    assert "== sos+, budget 64 (sos-plus-tiny)\n" in out
    recipe.write_text("[problems]\ncount = 1\n[[conditions]]\nmethod = 'sos+'\n")
    assert main(words) == 2
    assert "is for another method than apr" in capsys.readouterr().err


def test_rows_are_a_table_too(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    from apr.report.parquet import write_parquet

    problems = [SOLVED, *split_problems(Countdown(), 2, "test", 1)]
    protocol = Protocol(conditions=(Condition(samples=2), Condition(budget=3)), teacher={})
    _, rows = run(problems, protocol, Fault("Sub Call Budget", "error"))
    write_parquet(protocol, rows, tmp_path)
    table = parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    assert len(table) == len(rows) == 9
    for flat, row in zip(table, rows, strict=True):
        assert dict(flat["ends"]) == row["ends"]
        assert dict(flat["makespan"]) == row["makespan"]
        assert [int(number) for number in flat["problem_numbers"]] == row["problem"]["numbers"]
        assert flat["diagnostics_steps"] == row["diagnostics"]["steps"]
        assert flat["budget"] == (3 if row["condition"] else None)
        assert (flat["vote"], flat["teacher"], flat["correct"]) == (row["vote"], row["teacher"], row["correct"])
    assert {row["correct"] for row in table} == {True, False, None}


def test_rows_vote_for_their_solutions() -> None:
    problems = split_problems(Countdown(), 20, "test", 0)
    _, rows = run(problems, Protocol(teacher={"child_beam_size": 6}))
    for problem, row in zip(problems, rows, strict=True):
        assert (row["vote"] is None) == (row["answer"] is None)
        if row["correct"]:
            assert any(
                apr._core.solution(problem, steps) is not None for steps in permutations(row["vote"].split("\n"))
            )
        assert row["teacher"] == row["correct"]
        # The script plays searches of ten children.
        assert row["kind"] == Countdown().kind(problem)
        assert row["teacher_children"] >= row["threads"] - 1
        assert row["teacher_rounds"] == 1
        assert row["makespan"]["2"] <= row["total_tokens"]
        assert row["makespan"]["16"] == row["sequential_tokens"]
        # A script tells no timings.
        assert row["profile"] is None


def test_a_condition_may_run_few_problems_few_at_a_time() -> None:
    problems = split_problems(Countdown(), 4, "test", 1)
    protocol = Protocol(conditions=(Condition(problems=2, samples=2), Condition(concurrency=1), Condition(problems=9)))
    assert protocol.rollouts(4) == 12
    flying, most, loaded = 0, [0, 0, 0], []
    policy = teacher_policy(problems)
    generate = policy.engine.generate

    async def watched(*arguments: Any, **options: Any) -> Any:
        nonlocal flying
        flying += options["request_id"].count(".") == 0
        most[len(loaded) - 1] = max(most[len(loaded) - 1], flying)
        try:
            return await generate(*arguments, **options)
        finally:
            flying -= options["request_id"].count(".") == 0

    policy.engine.generate = watched  # type: ignore[method-assign]

    def load(*arguments: Any, **_: Any) -> Any:
        loaded.append(arguments)
        return policy

    rows: list[dict] = []
    asyncio.run(run_protocol(protocol, problems, rows.append, load=load))
    assert [row["condition"] for row in rows] == [0] * 4 + [1] * 4 + [2] * 4
    # A latency is measured on an engine that has cached nothing before.
    assert len(loaded) == 3
    assert most[1] == 1
    assert most[2] > 1


def test_settings_are_noted(model: str, tmp_path: Path) -> None:
    assert read_setting(tmp_path) == Setting()
    first = note_setting(tmp_path, Countdown(), {"one": Path(model)})
    assert "core" in machine()
    assert first.machines == (machine(),)
    both = note_setting(tmp_path, Countdown(), {"two": tmp_path})
    assert both.parameters == {"one": count_parameters(model), "two": None}
    assert both.digests.keys() == {"one", "two"}
    # Weights that changed under their name are another model.
    with pytest.raises(ValueError, match="other weights of two"):
        note_setting(tmp_path, Countdown(), {"two": Path(model)})
    assert read_setting(tmp_path) == both
    (tmp_path / "setting.json").write_text('{"machines": ["other"], "parameters": {}}')
    assert note_setting(tmp_path, Countdown(), {}).machines == ("other", machine())
    (tmp_path / "setting.json").write_text("{}")
    assert read_setting(tmp_path) == Setting()
    for broken in ("5", "{", '{"machines": [3]}', '{"machines": 3}', '{"digests": []}', '{"parameters": {"one": "3"}}'):
        (tmp_path / "setting.json").write_text(broken)
        with pytest.raises(ValueError, match=r"setting.json cannot be read: \S"):
            read_setting(tmp_path)


def test_parameters_are_counted(model: str, tmp_path: Path) -> None:
    from apr.engine.checkpoint import load_model

    assert count_parameters(model) == sum(weight.numel() for weight in load_model(model).parameters())
    assert count_parameters(tmp_path) is None
    for header in (b"\xff", b"[]", b'{"a":3}', b"[" * 100_000):
        (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
        assert count_parameters(tmp_path) is None


def test_shipped_protocols_are_read() -> None:
    whole = read_protocol(recipe_text("paper-small", "eval"))
    assert whole.problems.count == 200
    quick = read_protocol(recipe_text("paper-small", "eval"), quick=True)
    assert [str(c).partition(" samples")[0][:8] for c in quick.conditions] == [
        str(c).partition(" samples")[0][:8] for c in whole.conditions
    ]
    assert quick.rollouts(quick.problems.count) < whole.rollouts(200) / 25
    assert read_protocol(recipe_text("paper-small", "eval"), count=1000).problems.count == 1000
    with pytest.raises(ValueError, match="no quick form"):
        read_protocol("[[conditions]]", quick=True)


def test_the_papers_comparison_runs_on_a_clean_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each figure and table that two models can have, from the shipped checkpoints; here with less of all."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    words = ["eval", "--recipe", "paper-small", "--quick", "--problems", "1", "--max-tokens", "1500"]
    assert main(words) == 0
    results = tmp_path / "results" / "paper-small-quick"
    protocol, rows = read_rows(results)
    assert len(rows) == protocol.rollouts(1)
    assert all(row["profile"] is not None for row in rows)
    assert main(["report"]) == 0
    text = (results / "report.md").read_text()
    for title in (
        "Matched budgets",
        "Many samples",
        "Temperatures",
        "Latency",
        "Diagnostics",
        "Effort",
    ):
        assert f"## {title}" in text
    assert "3.45M parameters" in text
    # Before and after reinforcement learning, it takes two checkpoints of one method. These had two teachers.
    assert [line for line in text[text.index("## What is missing") :].splitlines() if line.startswith("- ")] == [
        "- several models of a method: two checkpoints of one method, such as before and after reinforcement learning "
        "(figures 5 and 7)",
        "- distance to the teacher: a protocol with a `teacher` table",
        "- the figure `models`: Several models of a method, free and with enforced budgets (figures 5 and 7)",
    ]
    assert len(list(results.glob("*.svg"))) == len(list(results.glob("*.png"))) == 11
    assert (results / "rows.parquet").is_file()
    assert main([*words, "--json"]) == 0
    assert "going on after" in capsys.readouterr().err


def test_a_missing_model_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # Where the first part of a path exists, it is no name on a hub.
    (tmp_path / "checkpoints").mkdir()
    assert main(["eval", "--recipe", "rl", "--quick"]) == 2
    assert "checkpoints/apr-tiny-open-order" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
    assert main(["eval", "--quick"]) == 2
    assert "--recipe" in capsys.readouterr().err
