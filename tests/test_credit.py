"""What tokens are worth beside their rollout's outcome, on searches written by hand."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from apr import Tokenizer
from apr.countdown.credit import choices
from apr.countdown.language import Traces
from apr.countdown.task import Countdown
from apr.engine.checkpoint import load_model
from apr.sudoku.task import Sudoku
from apr.testing.scripted import Fault
from apr.threads.tree import ThreadTree
from apr.train.model import CAUSAL
from apr.train.processes import Processes
from apr.train.recipes import RlConfig, recipe_text, rl_recipe
from apr.train.rl.check import check
from apr.train.rl.credit import Credit, child_verdict, credits_of
from apr.train.rl.groups import Group
from apr.train.rl.learner import Learner
from apr.train.rl.metrics import credited, records, summarise
from apr.train.rl.packs import Row, judged_rollouts, rows_of
from noisy import RECIPE
from searches import HOPEFUL, HOPELESS, OTHER, PROBLEM, group, missed, reached, searched
from tiny import save_tiny_model
from toy import ToyTask

FOUND = searched([HOPEFUL, HOPELESS], [reached("4+6=10"), missed("4+5=9")])
MISSED = searched([HOPEFUL, HOPELESS], [missed("6-4=2"), missed("5-4=1")])
FALSE = searched([HOPEFUL, HOPELESS], [missed("4*6=24"), reached("4+5=10")])


def config(**changes: Any) -> RlConfig:
    return rl_recipe(RECIPE, "apr", **{"loss": {"old_logprobs": "trainer"}, **changes})


def credit(one: Group, **weights: float) -> list[Credit]:
    (found,) = credits_of([one], Countdown(), Traces(), config(credit=weights))
    return found


def worth(found: Credit, tree: ThreadTree, thread: str) -> list[tuple[str, float]]:
    """The tokens of a thread that have credit."""
    ids = [token for call in tree.threads[thread].calls for token in call.sampled]
    own = found.advantages.get(thread, [0.0] * len(ids))
    return [(Tokenizer().decode([token]), value) for token, value in zip(ids, own, strict=True) if value]


def test_a_child_is_judged_by_its_own_part() -> None:
    verdicts = [
        [child_verdict(Countdown(), PROBLEM, tree.threads[child]) for child in ("0.0", "0.1")]
        for tree in (FOUND, MISSED, FALSE)
    ]
    assert verdicts == [["found", "nothing"], ["missed", "nothing"], ["missed", "false"]]


def test_children_are_worth_what_they_made_of_their_parts_less_the_mean_of_those_alike() -> None:
    one = group(FOUND, MISSED, FALSE)
    found = credit(one, children=0.5)
    # With a solution in it: 1, 0 and 0. Without: 1, 1 and -1.
    for place, child, gained in [
        *((0, "0.0", 2 / 3), (1, "0.0", -1 / 3), (2, "0.0", -1 / 3)),
        *((0, "0.1", 2 / 3), (1, "0.1", 2 / 3), (2, "0.1", -4 / 3)),
    ]:
        own = found[place].advantages[child]
        assert own == [pytest.approx(0.5 * gained)] * one.trees[place].threads[child].sampled_tokens
    assert all("0" not in each.advantages for each in found)
    counts = sum((each.counts for each in found), Counter[str]())
    assert credited(counts) == {
        name: pytest.approx(share / 6) for name, share in {"found": 1, "nothing": 2, "missed": 2, "false": 1}.items()
    }


def test_a_child_that_was_cut_short_is_never_right() -> None:
    endless = missed(*["4+9=13"] * 40)
    for steps, verdict in ((HOPEFUL, "missed"), (HOPELESS, None)):
        tree = searched([steps], [endless], context_length=300)
        assert [thread.reason for thread in tree.threads.values()] == ["no_answer", "length"]
        assert child_verdict(Countdown(), PROBLEM, tree.threads["0.0"]) == verdict


def test_a_choice_is_its_numbers_and_its_sign() -> None:
    narrow = searched([HOPEFUL, OTHER], [missed("6-4=2"), missed("12*2=24")])
    one = group(FOUND, narrow)
    found = credit(one, choices=1.0)
    # Of the first choices both are good, of the second ones one is.
    assert worth(found[0], FOUND, "0") == [(c, -0.5) for c in "2+3"]
    assert worth(found[1], narrow, "0") == [(c, 0.5) for c in "3*4"]
    assert all(set(each.advantages) == {"0"} for each in found)


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(("3*2=6", "4, 6"), id="a sibling had it"),
        pytest.param(("2+3=6", "4, 6"), id="by a false result"),
        pytest.param(("2*3=6", "10"), id="by numbers that are not left"),
    ],
)
def test_no_choice_is_good_for_what_it_only_says(second: tuple[str, str]) -> None:
    tree = searched([HOPEFUL, second], [missed("6-4=2"), missed("6-4=2")])
    (found,) = credit(group(tree), choices=1.0)
    assert (found.counts["choices"], found.counts["good_choices"]) == (2, 1)


def test_a_choice_is_judged_by_itself() -> None:
    """Neither by a false way to the same numbers before it, nor by its second spawn."""
    false_first = searched([("2+3=6", "4, 6"), HOPEFUL], [missed("6-4=2"), missed("6-4=2")])
    twice = false_first.main.text.replace("Node #0,1\n<End", "Node #0,0\n<End")
    prompts = [false_first.threads[child].prompt_text for child in ("0.0", "0.1")]
    found = choices(PROBLEM, false_first.main.text, prompts)
    assert [choice is not None and choice.good for choice in found] == [False, True]
    first, second = choices(PROBLEM, twice, [prompts[1].replace("#0,1", "#0,0")] * 2)
    assert first is not None
    assert first.good
    assert second is None


def test_the_token_that_made_a_line_wrong_pays_for_it() -> None:
    tree = searched([HOPEFUL, HOPELESS], [missed("6-4=3", "4*6=24"), missed("5-3=2", "4+5=9")])
    (found,) = credit(group(tree), lines=0.5)
    assert [worth(found, tree, thread) for thread in ("0", "0.0", "0.1")] == [[], [("3", -0.5)], [("3", -0.5)]]
    assert not found.wanted
    (found,) = credit(group(tree), corrections=0.5)
    assert not found.advantages
    sampled = [token for call in tree.threads["0.0"].calls for token in call.sampled]
    # A number that is not there could be any of those that are.
    ((thread, wanted),) = found.wanted.items()
    ((number, token),) = wanted.items()
    assert (thread, Tokenizer().decode([sampled[number]]), Tokenizer().decode([token])) == ("0.0", "3", "2")


def test_a_line_is_wrong_once() -> None:
    tree = searched([HOPEFUL, HOPELESS], [missed("6-4=2"), missed("5*5=26")])
    (found,) = credit(group(tree), lines=0.5, corrections=0.5)
    # The second 5 is not there; what comes out of it no longer matters.
    assert worth(found, tree, "0.1") == [("5", -0.5)]
    assert (found.counts["wrong_lines"], found.wanted) == (1, {})


def test_a_fault_that_the_thread_did_not_write_is_not_its_own() -> None:
    """A child begins with what its parent wrote wrongly."""
    tree = searched([("2*3=7", "4, 7")], [missed("7-4=3")])
    (found,) = credit(group(tree), lines=1.0)
    assert worth(found, tree, "0") == [("7", -1.0)]
    assert worth(found, tree, "0.0") == []


def test_a_round_is_compared_with_those_that_came_to_it() -> None:
    short = searched([HOPELESS], [missed("4+5=9")])
    long = searched([HOPELESS], [missed("4+5=9")], ([HOPEFUL], [reached("4+6=10")]))
    waves = (([OTHER], [missed("2+12=14")]), ([HOPEFUL], [reached("4+6=10")]))
    longer = searched([HOPELESS], [missed("4+5=9")], *waves)
    found = credit(group(short, long, longer, rewards=[0.9, 0.4, 0.2]), rounds=0.5)
    mean, second = 0.5, 0.3
    # All came to the second round, two of them to what follows it: one with a solution, one without.
    above = [[0.0, 0.0], [0.0, 0.0, mean - 0.4], [0.0, 0.0, mean - 0.2, mean - 0.2]]
    for own, tree, rounds in zip(found, (short, long, longer), above, strict=True):
        calls = [len(call.sampled) for call in tree.main.calls]
        expected = [0.5 * worth for worth, count in zip(rounds, calls, strict=True) for _ in range(count)]
        assert own.advantages.get("0", [0.0] * sum(calls)) == pytest.approx(expected)
        for number, worth in enumerate(rounds[:-1]):
            values = own.advantages.get(f"0.{number}", [])
            assert values == pytest.approx([0.5 * worth] * len(values))
            assert bool(values) == bool(worth)
    # Those that came as far with as much are compared with each other.
    both = credit(group(short, longer, longer, rewards=[0.9, 0.4, 0.2]), rounds=1.0)
    assert [own.advantages["0"][-1] for own in both[1:]] == pytest.approx([mean - second] * 2)
    assert both[1].advantages["0.2"] == pytest.approx([mean - second] * len(both[1].advantages["0.2"]))


def test_an_outcome_for_decisions_is_for_what_main_threads_decided() -> None:
    """The kinds of their lines, those of spawns too that joins took the place of, and the numbers of their steps."""
    waved = searched([HOPELESS], [missed("4+5=9")], ([HOPEFUL], [reached("4+6=10")]))
    one = group(MISSED, waved, rewards=[0.0, 1.0])
    settings = config(loss={"outcome": "decisions", "old_logprobs": "trainer"}, credit={"rounds": 0.4})
    spawn = ["Generated Node #", "<Calling Sub Searches>\n", "<Start Sub Search ", "<End Calling Sub Searches>\n"]
    first = ["Exploring Operation: ", "2", "+", "3", *spawn]
    later = ["Moving to Node #", "Current State: ", "Exploring Operation: ", "2", "*", "3", *spawn]
    # Both came to the second round with nothing, and the other alone to the third, with a solution.
    expected = [*((token, 0.5) for token in first + later), ("N", pytest.approx(0.5 + 0.4 * (0.5 - 1.0)))]
    for share in (True, False):
        found: dict[tuple[int, str], list[tuple[str, float]]] = defaultdict(list)
        for row in rows([one], replace(settings, share_trunks=share)):
            ids = [token for token, own in zip(row.sample.token_ids, row.sample.loss_mask, strict=True) if own]
            pairs = [(Tokenizer().decode([token]), gained) for token, gained in zip(ids, row.advantages, strict=True)]
            found[row.rollout.member, row.sample.thread] += [pair for pair in pairs if pair[1]]
        assert {place for place, pairs in found.items() if pairs} == {(0, "0"), (1, "0")}
        assert found[1, "0"] == expected


def test_rounds_have_no_part_in_advantages_that_are_divided() -> None:
    with pytest.raises(ValueError, match="rounds: a mean reward"):
        config(credit={"rounds": 1.0}, loss={"advantage": "std"})


def test_an_engine_failure_counts_nowhere() -> None:
    lost = searched(
        [HOPEFUL, HOPELESS], [reached("4+6=10"), missed("4+5=8")], faults=[Fault("#0,1\n", "error", after=4)]
    )
    assert lost.failed
    weights = {"children": 1.0, "choices": 1.0, "rounds": 1.0, "lines": 1.0, "corrections": 1.0}
    alone, among = credit(group(MISSED, FALSE), **weights), credit(group(MISSED, lost, FALSE), **weights)
    assert among[1] == Credit()
    assert [among[0], among[2]] == alone
    assert summarise(records(Countdown(), [group(lost, lost)])).keys() == {"rollouts", "failures", "zero_signal"}


def test_wrong_results_and_states_are_told_a_thousand_lines() -> None:
    tree = searched([HOPEFUL, HOPELESS], [missed("6-4=3", "4*6=24"), missed("5-4=1", "4+5=9")])
    told = summarise(records(Countdown(), [group(tree)]))
    assert told["wrong_results"] == pytest.approx(1000 / 6)
    assert "wrong_states" not in told


WEIGHTS = {"children": 0.5, "choices": 0.7, "rounds": 0.4, "lines": 0.3, "corrections": 0.9}
FAULTY = searched([HOPEFUL, ("2+3=6", "4, 6")], [missed("6-4=3"), missed("4+6=10")])


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(save_tiny_model(tmp_path_factory.mktemp("policy") / "tiny", context_length=512))


def rows(groups: list[Group], settings: RlConfig) -> list[Row]:
    credits = credits_of(groups, Countdown(), Traces(), settings)
    share = settings.share_trunks
    rollouts = judged_rollouts(groups, settings.loss, share_trunks=share, credits=credits)
    return rows_of(rollouts, settings.loss, Processes(torch.device("cpu")))


def gradient(groups: list[Group], start: Path, settings: RlConfig) -> Any:
    model = load_model(start, attention=CAUSAL)
    learner = Learner(settings, model, None, Traces(), Processes(torch.device("cpu")))
    found: list[Any] = []

    def keep(step: int, steps: int) -> float:
        found.extend(p.grad.flatten() for p in model.parameters() if p.grad is not None)
        return 0.0

    learner.optimizers.update = keep  # type: ignore[method-assign]
    learner.learn(rows(groups, settings), 0)
    return torch.cat(found)


LATE = searched([HOPELESS, HOPEFUL], [missed("4+5=9"), missed("6-4=2")])
GROUPS = [group(FOUND, FALSE, FAULTY, rewards=[1.0, 0.0, 0.0]), group(MISSED, FAULTY, LATE)]


@pytest.mark.parametrize("name", [*WEIGHTS, "all"])
def test_rows_cut_anyhow_and_idle_ones_left_out_give_one_gradient(
    name: str, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = WEIGHTS if name == "all" else {name: WEIGHTS[name]}
    loss = {"old_logprobs": "trainer", "weighting": "rollout_mean"}
    whole = config(credit=weights, loss=loss, share_trunks=False)
    expected = gradient(GROUPS, start, whole)
    close = {"rtol": 1e-4, "atol": 1e-5 * float(expected.abs().max())}
    shared = config(credit=weights, loss=loss, share_trunks=True, tokens_per_batch=300)
    torch.testing.assert_close(gradient(GROUPS, start, shared), expected, **close)
    with monkeypatch.context() as patched:
        fewer = len(rows(GROUPS, whole))
        patched.setattr(Row, "idle", False)
        assert len(rows(GROUPS, whole)) > fewer or name in ("children", "all")
        torch.testing.assert_close(gradient(GROUPS, start, whole), expected, **close)
    assert not torch.allclose(gradient(GROUPS, start, config(loss=loss)), expected, **close)


def test_an_outcome_is_one_number_for_all_tokens_of_its_rollout() -> None:
    plain = rows([GROUPS[0]], config())
    values = {(row.rollout.member, each) for row in plain for each in row.advantages}
    assert sorted(values) == [(0, pytest.approx(2 / 3)), (1, pytest.approx(-1 / 3)), (2, pytest.approx(-1 / 3))]
    # Beside it, a token keeps its credit in whatever row it stands.
    for share in (True, False):
        found = rows([GROUPS[0]], config(credit=WEIGHTS, share_trunks=share))
        for member, credit in enumerate(credits_of([GROUPS[0]], Countdown(), Traces(), config(credit=WEIGHTS))[0]):
            for thread, own in credit.advantages.items():
                mine = [row for row in found if (row.rollout.member, row.sample.thread) == (member, thread)]
                values = [each for row in mine for each in row.advantages]
                assert values == [mine[0].rollout.advantage + each for each in own]


def test_the_gradient_of_a_correction_is_that_of_the_right_token(start: Path) -> None:
    """At the place of the wrong one, given the policy's own text before it."""
    tree = searched([HOPEFUL], [missed("6-4=3")])
    found = gradient([group(tree)], start, config(credit={"corrections": 1.0}))
    model = load_model(start, attention=CAUSAL)
    child, tokens = tree.threads["0.0"], sum(t.sampled_tokens for t in tree.threads.values())
    (number,) = credit(group(tree), corrections=1.0)[0].wanted["0.0"]
    before = child.token_ids[: len(child.calls[0].forced) + number]
    logits = model(input_ids=torch.tensor([before])).logits[0, -1]
    right = Tokenizer().encode("2")[0]
    torch.autograd.backward(-torch.log_softmax(logits, -1)[right] / tokens)
    expected = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


def test_where_the_policy_is_sure_no_token_is_worth_more_or_less(start: Path) -> None:
    """But what is wrong is corrected there too."""
    loss = {"old_logprobs": "trainer", "least_entropy": 100.0}
    assert not gradient(GROUPS, start, config(loss=loss)).any()
    settings = config(loss=loss, credit={"children": 0.5, "corrections": 1.0})
    alone = [group(*one.trees) for one in GROUPS]
    expected = gradient(alone, start, config(credit={"corrections": 1.0}))
    torch.testing.assert_close(gradient(GROUPS, start, settings), expected)


@pytest.mark.parametrize(
    "key", ["credit.children", "credit.choices", "credit.lines", "credit.corrections", "loss.outcome", "edge"]
)
def test_what_a_task_cannot_tell_is_refused_in_one_line(key: str, start: Path) -> None:
    table, _, name = key.partition(".")
    wanted = "decisions" if key == "loss.outcome" else 0.5
    settings = config(**{table: {name: wanted} if name else wanted})
    with pytest.raises(ValueError, match=f"^{key}: the task toy:ToyTask cannot [a-z ]+$"):
        check(ToyTask(), Traces(), settings, start)
    check(Countdown(), Traces(), settings, start)
    if key in ("credit.choices", "loss.outcome", "edge"):
        with pytest.raises(ValueError, match=f"{key}: the task sudoku cannot"):
            check(Sudoku(), Traces(), settings, start)
    else:
        check(Sudoku(), Traces(), replace(settings, numbers=None), start)


def test_a_reward_or_problems_that_there_are_not_are_refused_before_a_run_is_made(start: Path) -> None:
    for key, value in (("reward", "no:such"), ("reward", "dearest"), ("numbers", [9, 9])):
        with pytest.raises(ValueError, match=key):
            check(Countdown(), Traces(), config(**{key: value}), start)
    with pytest.raises(ValueError, match="unknown key numbers"):
        check(Sudoku(), Traces(), config(numbers=[3, 3]), start)


def test_costs_are_not_divided_by_their_spread() -> None:
    with pytest.raises(ValueError, match="costs: advantage"):
        config(costs={"per_1000_tokens": 0.1}, loss={"advantage": "std"})


def test_the_ablations_differ_in_nothing_but_what_they_are_called_for() -> None:
    names = ("outcome", "children", "lines", "corrections", "cost")
    recipes = {name: rl_recipe(recipe_text(f"ablation-{name}", "rl"), "apr") for name in names}
    plain = recipes.pop("outcome")
    assert plain.sampled_tokens is not None
    for recipe in recipes.values():
        assert recipe != plain
        assert {f: getattr(recipe, f) for f in ("credit", "costs")} != {
            f: getattr(plain, f) for f in ("credit", "costs")
        }
        for field in set(recipe.__slots__) - {"credit", "costs"}:
            assert getattr(recipe, field) == getattr(plain, field)
