"""Lessons: kinds of Countdown's tokens, a teacher's searches as samples, and a run of a task of one's own."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from apr import Tokenizer, _core
from apr.countdown.lessons import Lessons as CountdownLessons
from apr.countdown.loss_weights import CODES, KINDS, LossWeights
from apr.languages.tags import InheritingTags, Tags
from apr.origin import Origin, read_origin
from apr.task import Search, Written
from apr.train.batches import Batch, batches, collate, runs
from apr.train.data import SftData
from apr.train.lessons import BringsLessons, Lessons, lessons_of
from apr.train.recipes import recipe_text, sft_recipe
from apr.train.run import RunDirectory
from apr.train.searches import WRITTEN, search_samples
from apr.types import Sample
from sums import Cutting, Sums
from tiny_runs import SFT, sft

SUMS = """
task = "sums:Sums"
steps = 4
tokens_per_step = 300
tokens_per_batch = 512
validate_every = 2
validation_lessons = 4
checkpoint_every = 2

[model]
hidden_size = 16
layers = 1
heads = 2
mlp_size = 32
context_length = 256

[optimizer]
learning_rate = 3e-3

[data]
digits = 4

[weights]
total = 3
"""


# The slow twins of what `rust/countdown/src/lesson.rs` says of a token.


def result_positions(batch: Batch, tokenizer: Tokenizer) -> Tensor:
    """Number of the equation each position's digit is a result of, from 1; 0 elsewhere. [B, T], int64.

    What a trial multiplies by is computed too, and counts as one more.
    """
    ids_BT = batch.token_ids_BT
    digits = torch.tensor([tokenizer.token_id(str(d)) for d in range(10)])
    digit_BT = torch.isin(ids_BT, digits)
    positions = torch.arange(ids_BT.shape[1]).expand_as(ids_BT)
    # Where the line of each position begins: a trial does with a number, an operation that is explored with its word.
    begin_BT = torch.where(line_begins(batch, tokenizer), positions, 0).cummax(dim=1).values
    times_BT = torch.eq(ids_BT, tokenizer.token_id("*") or 0) & digit_BT.gather(1, begin_BT)
    opens_BT = torch.eq(ids_BT, tokenizer.token_id("=") or 0) | times_BT
    # The last token that is no digit, at or before each position.
    before_BT = torch.where(digit_BT, 0, positions).cummax(dim=1).values
    result_BT = digit_BT & opens_BT.gather(1, before_BT) & batch.loss_mask_BT
    number_BT = opens_BT.flatten().cumsum(0).view_as(ids_BT)
    return torch.where(result_BT, number_BT, 0)


def large_results(results_BT: Tensor) -> Tensor:
    """Which of the numbered positions are digits of a result from 1,000 on. [B, T], bool."""
    digits_N = results_BT.flatten().bincount()
    return (results_BT > 0) & (digits_N[results_BT] > 3)


def state_positions(batch: Batch, tokenizer: Tokenizer) -> Tensor:
    """Whether each position is in the numbers or operations of a state line that the model writes. [B, T], bool."""
    ids_BT = batch.token_ids_BT
    positions = torch.arange(ids_BT.shape[1]).expand_as(ids_BT)

    def last(tokens: Sequence[int]) -> Tensor:
        return torch.where(torch.isin(ids_BT, torch.tensor(tokens)), positions, -1).cummax(dim=1).values

    opens, begins, *ends = tokenizer.state_tokens
    inside_BT = (last([begins]) > last([opens])) & (last([opens]) > last(ends)) & (last([begins]) < positions)
    return inside_BT & batch.loss_mask_BT


def verdict_positions(batch: Batch, tokenizer: Tokenizer) -> Tensor:
    """Whether each position is a verdict of the model: equal to the target or not. [B, T], bool."""
    return torch.isin(batch.token_ids_BT, torch.tensor(tokenizer.verdict_tokens)) & batch.loss_mask_BT


def joined_positions(batch: Batch, tokenizer: Tokenizer) -> Tensor:
    """Whether each position is one that the model writes after a join. [B, T], bool."""
    return torch.eq(batch.token_ids_BT, tokenizer.join_end or 0).cumsum(1).bool() & batch.loss_mask_BT


def line_begins(batch: Batch, tokenizer: Tokenizer) -> Tensor:
    """Whether each position is the first after the end of a line. [B, T], bool."""
    ends = [token for token in range(tokenizer.vocab_size) if tokenizer.decode([token]).endswith("\n")]
    first_BT = torch.zeros_like(batch.loss_mask_BT)
    first_BT[:, 1:] = torch.isin(batch.token_ids_BT[:, :-1], torch.tensor(ends))
    return first_BT


def line_positions(batch: Batch, tokenizer: Tokenizer) -> Tensor:
    """Whether each position is the first of a line that the model writes. [B, T], bool."""
    return line_begins(batch, tokenizer) & batch.loss_mask_BT


def choice_positions(batch: Batch, tokenizer: Tokenizer) -> Tensor:
    """Whether each position is one where a thread that spawns chooses: between "Exploring Operation: " and "=", or the
    begin of a line, unless a solution comes of it. [B, T], bool."""
    found_BT = torch.zeros_like(batch.loss_mask_BT)
    for row, (ids, written) in enumerate(zip(batch.token_ids_BT.tolist(), batch.loss_mask_BT.tolist(), strict=True)):
        texts = [tokenizer.decode([token]) for token in ids]
        whole = "".join(texts)
        spawns = "<Calling Sub Searches>" in whole or "<End Sub Searches>" in whole
        own = "".join(text for text, one in zip(texts, written, strict=True) if one)
        if not spawns or " equal: Goal Reached" in own:
            continue
        chosen = False
        for place, text in enumerate(texts):
            chosen = chosen and text != "="
            begins = place > 0 and texts[place - 1].endswith("\n")
            found_BT[row, place] = written[place] and (chosen or begins)
            chosen = chosen or text == "Exploring Operation: "
    return found_BT


def weighed(batch: Batch, tokenizer: Tokenizer, weights: LossWeights) -> Tensor:
    weights_BT = batch.loss_mask_BT.float()
    results_BT = result_positions(batch, tokenizer)
    weights_BT[results_BT > 0] = weights.results
    weights_BT[large_results(results_BT)] = weights.large_results
    weights_BT[state_positions(batch, tokenizer)] = weights.states
    weights_BT[verdict_positions(batch, tokenizer)] = weights.verdicts
    weights_BT[line_positions(batch, tokenizer)] = weights.lines
    joined_BT = joined_positions(batch, tokenizer)
    weights_BT[joined_BT] = weights_BT[joined_BT].clamp_min(weights.joined)
    weights_BT[choice_positions(batch, tokenizer)] *= weights.choices
    return weights_BT


def codes(kinds_BT: Tensor, kind: str) -> Tensor:
    return torch.isin(kinds_BT, torch.tensor(sorted(KINDS[kind])))


def samples_of(method: Any, count: int, recipe: str = "tiny") -> list[Sample]:
    config = sft_recipe(recipe_text(recipe), method)
    lessons = CountdownLessons(method, config.data, config.weights, seed=5, max_tokens=4096)
    return [
        sample
        for position in range(count)
        for progress in (0.0, 0.9)
        for sample in lessons.samples(position, progress)[0]
    ]


@pytest.mark.parametrize("recipe", ["tiny", "paper"])
@pytest.mark.parametrize("method", ["apr", "sos+"])
def test_kinds_are_what_a_slow_reading_finds(method: str, recipe: str) -> None:
    tokenizer = Tokenizer()
    weights = LossWeights(results=3.25, large_results=0.1, states=0.7, verdicts=5.5, joined=4.3, lines=6.5, choices=0.5)
    table = torch.tensor([weights.of(code) for code in range(CODES)])
    found = dict.fromkeys(KINDS, 0)
    for batch in batches(samples_of(method, 80, recipe), tokenizer.pad, 8192):
        assert batch.kinds_BT is not None
        kinds_BT = batch.kinds_BT.long()
        assert torch.equal(kinds_BT > 0, batch.loss_mask_BT)
        assert torch.equal(table[kinds_BT], weighed(batch, tokenizer, weights))
        results_BT = result_positions(batch, tokenizer)
        slow = {
            "results": results_BT > 0,
            "large_results": large_results(results_BT),
            "states": state_positions(batch, tokenizer),
            "verdicts": verdict_positions(batch, tokenizer),
            "joined": joined_positions(batch, tokenizer),
            "lines": line_positions(batch, tokenizer),
            "choices": choice_positions(batch, tokenizer),
        }
        for kind, positions_BT in slow.items():
            assert torch.equal(codes(kinds_BT, kind), positions_BT), kind
            found[kind] += int(positions_BT.sum())
        # Runs of right results are counted as their equations are.
        wrong_BT = torch.rand(kinds_BT.shape) < 0.1
        numbers = set(results_BT.flatten().tolist()) - {0}
        spoilt = set(results_BT[wrong_BT].tolist()) - {0}
        assert runs(codes(kinds_BT, "results"), wrong_BT) == (len(numbers) - len(spoilt), len(numbers))
    # Serial searches neither join nor choose what to spawn.
    assert all(count for kind, count in found.items() if method == "apr" or kind not in ("joined", "choices")), found


def test_a_trial_is_computed_from_its_quotient_on() -> None:
    tokenizer = Tokenizer()
    part = {"weight": 1.0, "numbers": [3, 3], "max_number": 999, "multiples": 1.0, "promising": 0.0, "conditioned": 0.0}
    stages = [{"until": 1.0, "parts": [part]}]
    data = {"ranking": "kinds", "slack": 2, "trials": 100, "waves": [4], "stages": stages}
    lessons = CountdownLessons("apr", data, {}, seed=3, max_tokens=4096)
    computed = ""
    expected = ""
    for sample in (sample for place in range(20) for sample in lessons.samples(place, 0.0)[0]):
        tokens = [tokenizer.decode([token]) for token in sample.token_ids]
        ends = [place for place, token in enumerate(tokens) if token.endswith("\n")]
        for begin, end in pairwise(ends):
            if trial := re.fullmatch(r"\d+(?:\*(\d+)|-\d+)=(\d+)\n", "".join(tokens[begin + 1 : end + 1])):
                expected += (trial[1] or "") + trial[2]
                line = range(begin + 1, end)
                computed += "".join(tokens[place] for place in line if sample.kinds[place] in KINDS["results"])
    assert len(expected) > 50
    assert computed == expected


def test_the_kinds_of_a_line_are_seen() -> None:
    tokenizer = Tokenizer()
    text = "Exploring Operation: 12+3=15, 4 91*80=7280, 1000-1=999\n7*13=91\n91-91=0\n"
    ids = tokenizer.encode(text)
    results = result_positions(collate([Sample(tuple(ids), (True,) * len(ids))], 0), tokenizer)[0].tolist()
    assert "".join(tokenizer.decode([i]) for i, n in zip(ids, results, strict=True) if n) == "15728099913910"
    words = set()
    for sample in samples_of("apr", 20):
        for kind in ("states", "verdicts"):
            of_kind = [code in KINDS[kind] for code in sample.kinds]
            own = [i for i, own in zip(sample.token_ids, of_kind, strict=True) if own]
            if kind == "verdicts":
                words |= {tokenizer.decode([token]).strip() for token in own}
                continue
            lines = tokenizer.decode(list(sample.token_ids), skip_special=True).split("\n")
            states = [line.split(":[")[1] for line in lines if line.startswith("Current")]
            contents = [state.removesuffix("], Operations: []").removesuffix("']") for state in states]
            # What the model did not write itself (the prompt's state, those of a join block) stands first.
            assert "".join(contents).endswith(tokenizer.decode(own))
    assert words == {"unequal: No Solution", "equal: Goal Reached"}


def test_runs_are_right_in_all_their_tokens() -> None:
    among = torch.tensor([[0, 1, 1, 0, 1], [1, 1, 0, 1, 1]]).bool()
    wrong = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 1, 1, 1]]).bool()
    assert runs(among, wrong) == (2, 4)
    assert runs(among, ~among) == (4, 4)
    assert runs(torch.zeros(2, 3).bool(), torch.ones(2, 3).bool()) == (0, 0)


def shown(sample: Sample, language: Tags) -> list[tuple[int, str]]:
    """A sample's tokens with their codes, neighbours of one code together."""
    parts: list[tuple[int, list[int]]] = []
    for token, code in zip(sample.token_ids, sample.kinds, strict=True):
        if not parts or parts[-1][0] != code:
            parts.append((code, []))
        parts[-1][1].append(token)
    return [(code, language.tokenizer.decode(ids)) for code, ids in parts]


def example() -> Search:
    children = (Search("1", (Written("c"),), "1"), Search("2", (), None))
    return Search("1+2", (Written("a"), children, Written("b"), Written("3", "total")), "3")


SPAWNED = "<spawn>\n<child>1</child>\n<child>2</child>\n</spawn>"
JOINED = "\n<join>\n<result>1</result>\n<none/>\n</join>\n"


def test_what_a_thread_writes_itself_carries_loss() -> None:
    language = Tags()
    main, one, two = search_samples(example(), language, {"total": 2})
    assert shown(main, language) == [
        (0, "<s>1+2\n"),
        (WRITTEN, f"a{SPAWNED}"),
        (0, JOINED),
        (WRITTEN, "b"),
        (2, "3"),
        (WRITTEN, "<answer>3</answer></s>"),
    ]
    assert shown(one, language) == [(0, "<s>1\n"), (WRITTEN, "c<answer>1</answer></s>")]
    assert shown(two, language) == [(0, "<s>2\n"), (WRITTEN, "</s>")]
    assert [sample.thread for sample in (main, one, two)] == ["0", "0.0", "0.1"]
    assert all(sample.loss_mask == tuple(map(bool, sample.kinds)) for sample in (main, one, two))


def test_what_a_child_inherits_carries_no_loss() -> None:
    language = InheritingTags()
    main, one, two = search_samples(example(), language, {"total": 2})
    assert main == search_samples(example(), Tags(), {"total": 2})[0]
    assert shown(one, language) == [
        (0, f"<s>1+2\na{SPAWNED}\n<child>1</child>\n"),
        (WRITTEN, "c<answer>1</answer></s>"),
    ]
    assert shown(two, language) == [(0, f"<s>1+2\na{SPAWNED}\n<child>2</child>\n"), (WRITTEN, "</s>")]


def test_a_join_that_cuts_begins_a_sample() -> None:
    language = Cutting()
    first, then, *_ = search_samples(example(), language, {})
    assert shown(first, language) == [(0, "<s>1+2\n"), (WRITTEN, f"a{SPAWNED}")]
    assert shown(then, language) == [(0, f"<s>1+2\na{JOINED}"), (WRITTEN, "b3<answer>3</answer></s>")]
    assert (first.thread, then.thread) == ("0", "0")


def test_children_count_on_over_the_rounds_of_their_parent() -> None:
    leaf = Search("1", (), "1")
    twice = Search("1", ((leaf, Search("2", ((leaf,),), "2")), (leaf,)), "1")
    threads = [sample.thread for sample in search_samples(twice, Tags(), {})]
    assert threads == ["0", "0.0", "0.1", "0.1.0", "0.2"]


def test_a_spawn_that_the_language_does_not_read_is_an_error() -> None:
    class Blind(Tags):
        def spawn(self, prompts: Sequence[str]) -> tuple[int, ...]:
            return super().spawn([*prompts, "more"])

    with pytest.raises(ValueError, match="does not read the spawn that it wrote"):
        search_samples(example(), Blind(), {})


def test_lessons_of_searches_are_pure_and_fit() -> None:
    config = sft_recipe(SUMS, "apr")
    first, second = SftData(config), SftData(config)
    steps = [first.step(step) for step in range(4)]
    assert [second.step(step) for step in range(4)] == steps
    resumed = SftData(config)
    resumed.position = first.position
    assert resumed.step(3) == first.step(3)
    assert first.validation() == second.validation() != []
    assert first.lessons.kinds == {"total": {2}}
    assert tuple(first.lessons.weights) == (0.0, 1.0, 3.0)
    assert max(len(s.token_ids) for step in steps for s in step) <= 256
    # Half of the run is on short lists alone.
    assert max(len(s.token_ids) for s in steps[1]) < max(len(s.token_ids) for s in steps[3])
    short = SftData(sft_recipe(SUMS.replace("context_length = 256", "context_length = 40"), "apr"))
    assert max(len(s.token_ids) for s in short.step(3)) <= 40


@pytest.mark.parametrize(
    ("line", "changed", "said"),
    [
        ("total = 3", "totl = 3", "weights.totl: the teacher writes no such kind of token; known: total"),
        ("total = 3", "total = -1", "weights.total: -1 is not a number from 0 on"),
        ("total = 3", "total = nan", "weights.total: nan"),
        ("total = 3", "total = true", "weights.total: True"),
        ("digits = 4", "numbers = 4", "data: unknown keys"),
        ("context_length = 256", "context_length = 8", "of 1000 lessons none has a thread of at most model.context"),
        ("sums:Sums", "sums:Idle", "sums:Idle has no teacher"),
        ("sums:Sums", "sums:Nothing", "cannot be found"),
        ("steps = 4", 'steps = 4\nlanguage = "latin"', "unknown language 'latin'"),
        ('task = "sums:Sums"', "task = 3", "task: 3 is not a text"),
        ('task = "sums:Sums"', 'task = "countdown"\nlanguage = "tags"', "countdown"),
    ],
)
def test_what_a_task_does_not_take_is_refused(line: str, changed: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SftData(sft_recipe(SUMS.replace(line, changed), "apr"))


def test_a_weight_of_no_kind_of_countdowns_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown key weights\.result; known: choices, joined, large_results"):
        sft_recipe(SFT + "\n[weights]\nresult = 2\n", "apr")


def test_methods_replace_parts_of_the_data() -> None:
    config = sft_recipe(SUMS + "\n[methods.apr]\ndigits = 3\n", "apr")
    assert (config.task, config.language, config.data) == ("sums:Sums", "tags", {"digits": 3})
    assert sft_recipe(SFT, "apr").language == "traces"
    with pytest.raises(ValueError, match=r"the recipe has no methods\.'sos\+' table"):
        sft_recipe(SUMS + "\n[methods.apr]\ndigits = 3\n", "sos+")
    bare = SUMS.replace("[data]\ndigits = 4\n", "")
    assert bare != SUMS
    assert sft_recipe(bare, "apr").data == {}


def test_a_task_may_bring_lessons_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    config = sft_recipe(SUMS, "apr")
    own = lessons_of(sft_recipe(SFT, "apr"))

    def lessons(self: Sums, data: Any, weights: Any, *, seed: int, max_tokens: int) -> Lessons:
        assert (data, weights, seed, max_tokens) == ({"digits": 4}, {"total": 3}, 0, 256)
        return own

    monkeypatch.setattr(Sums, "lessons", lessons, raising=False)
    monkeypatch.setattr(Sums, "lessons_language", "tags", raising=False)
    assert isinstance(Sums(), BringsLessons)
    assert lessons_of(config) is own
    other = sft_recipe(SUMS.replace("steps = 4", 'steps = 4\nlanguage = "sums:cutting"'), "apr")
    assert lessons_of(other) is not own


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the task that nobody disturbed."""
    out = tmp_path_factory.mktemp("sums") / "run"
    assert sft(out, recipe=SUMS) == 0
    return out


def test_a_run_tells_what_it_is_of(whole: Path, tmp_path: Path) -> None:
    run = RunDirectory(whole)
    latest = run.latest()
    assert latest is not None
    assert read_origin(latest) == Origin("sums:Sums", "tags", "apr")
    assert Tokenizer.from_json((latest / "tokenizer.json").read_text()).to_json() == Tags().tokenizer.to_json()
    assert json.loads((latest / "config.json").read_text())["vocab_size"] == Tags().tokenizer.vocab_size
    told = [entry for entry in run.entries() if "validation_loss" in entry]
    assert [entry["step"] for entry in told] == [2, 4]
    assert all(0 <= entry["validation_total"] <= 1 for entry in told)
    assert sft(tmp_path / "run", recipe=SFT.replace("validate_every = 0", "validate_every = 4")) == 0
    countdown = RunDirectory(tmp_path / "run")
    assert read_origin(countdown.latest() or "") == Origin("countdown", "traces", "apr")
    assert {f"validation_{kind}" for kind in ("results", "states", "verdicts")} <= set(countdown.entries()[-1])


def test_a_start_is_of_the_runs_language(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = str(RunDirectory(whole).latest())
    assert sft(tmp_path / "run", "--start-from", start, recipe=SUMS) == 0
    capsys.readouterr()
    of_traces = SFT.replace("context_length = 512", "context_length = 256")
    assert sft(tmp_path / "other", "--start-from", start, recipe=of_traces) == 2
    assert "has a tokenizer of its own" in capsys.readouterr().err
    (tmp_path / "model").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "model" / name).write_bytes((Path(start) / name).read_bytes())
    # Without a tokenizer of its own a model writes traces.
    assert sft(tmp_path / "other", "--start-from", str(tmp_path / "model"), recipe=SUMS) == 2
    assert "has a tokenizer of its own" in capsys.readouterr().err


def test_training_on_searches_lowers_the_loss(tmp_path: Path) -> None:
    out = tmp_path / "run"
    recipe = SUMS.replace("learning_rate = 3e-3", "learning_rate = 3e-2\nwarmup_steps = 5")
    assert sft(out, "--steps", "60", recipe=recipe) == 0
    losses = [entry["loss"] for entry in RunDirectory(out).entries()]
    assert losses[-1] < 0.7 * losses[0]


def test_late_waves_have_lessons_of_their_own_of_the_same_problems_for_both_methods() -> None:
    options: dict[str, Any] = {"promising": 1.0, "ranking": "kinds", "slack": 2, "waves": [4], "conditioned": 0.0}
    threads, serial = (_core.Traces(3, method, rounds=4, **options).get(0, 20) for method in ("apr", "sos+"))
    assert all(len(trace.children) >= 4 for _, trace, *_ in threads)
    assert [problem for problem, *_ in threads] == [problem for problem, *_ in serial]
    stage = {"until": 1.0, "parts": [{"weight": 1.0, "beam_size": [2, 2], "rounds": 2}]}
    with pytest.raises(ValueError, match="rounds are of a search in waves"):
        CountdownLessons("apr", {"stages": [stage]}, {}, seed=0, max_tokens=500)
    with pytest.raises(ValueError, match=r'data\.trials: they go with ranking = "kinds" only'):
        CountdownLessons("apr", {"stages": [stage], "waves": [4], "trials": 100}, {}, seed=0, max_tokens=500)


def test_a_part_has_problems_of_multiples_and_large_children_are_taught_first() -> None:
    """From the recipe down to the tokens; each in its own crate's tests otherwise."""
    part = {"weight": 1.0, "promising": 1.0, "conditioned": 0.0}
    tokenizer = Tokenizer()

    def texts(stage: dict[str, Any], **data: Any) -> list[str]:
        data = {"ranking": "kinds", "waves": [24], "stages": [{"until": 1.0, "parts": [part | stage]}], **data}
        lessons = CountdownLessons("apr", data, {}, seed=3, max_tokens=4096)
        return [tokenizer.decode(s.token_ids, True) for place in range(30) for s in lessons.samples(place, 0.0)[0]]

    def numbers(text: str) -> list[int]:
        return [int(n) for n in text.split("[", 1)[1].split("]", 1)[0].split(", ")]

    pairs = {"numbers": (2, 2), "max_number": 999, "target": (2, 100)}
    multiples = [numbers(text) for text in texts(pairs | {"multiples": 1.0})]
    assert all(last % first == 0 for first, last in multiples)
    assert not all(last % first == 0 for first, last in map(numbers, texts(pairs)))

    assert all("Goal Reached" in text for text in texts(pairs))
    assert all("Goal Reached" not in text for text in texts(pairs | {"multiples": 1.0, "missed": 1.0}))

    triples = pairs | {"numbers": (3, 3), "multiples": 1.0, "promising": 0.0}
    trials = re.compile(r"^\d+[*-]\d+=\d+$", re.MULTILINE)
    assert not any(trials.search(text) for text in texts(triples))
    tried = [text for text in texts(triples, trials=200) if trials.search(text)]
    assert any("/" in text.split("Exploring", 1)[1] for text in tried)
    assert all(max(numbers(t)) > 200 for t in tried)

    def large(**data: Any) -> int:
        return sum(max(numbers(text)) > 200 for text in texts({}, children=2, **data))

    assert large(children_above=200) > large()

    part: dict[str, Any] = {"weight": 1.0, "promising": 1.0, "rounds": 2, "main": False}
    stages = {"ranking": "kinds", "slack": 2, "waves": [4], "stages": [{"until": 1.0, "parts": [part]}]}
    lessons = CountdownLessons("apr", stages | {"children_above": 200}, {}, seed=3, max_tokens=4096)
    children = [tokenizer.decode(s.token_ids, True) for place in range(30) for s in lessons.samples(place, 0.0)[0]]
    assert all(text.startswith("Moving to Node #0,") and max(numbers(text)) > 200 for text in children)
    with pytest.raises(ValueError, match="children_above says which children"):
        CountdownLessons("apr", stages, {}, seed=3, max_tokens=4096)
