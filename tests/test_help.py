"""How the command line tells people what there is: help, examples, complaints with suggestions, completion."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from apr.cli import main
from apr.cli.commands import EXTRAS, GROUPS, own
from apr.cli.completion import parser_of
from apr.cli.solve import parser as solve_parser

SOLVE = ["solve", "22", "26", "31", "53", "--target", "27"]
PARSED = {name for name in own() if name != "bench"}
"""Commands that tell their own options; those of benchmarks are a checkout's."""


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command and kind of one, with its parser."""
    for name in own():
        parser = parser_of(name)
        yield name, parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                yield from ((f"{name} {kind}", one) for kind, one in action.choices.items())


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a wrong command is told, in its one line."""
    assert main(list(words)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_help_lists_the_commands_by_what_they_are_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for group, commands in GROUPS.items():
        assert f"\n{group}:\n" in shown
        for name, text in commands.items():
            assert re.search(rf"^  {name} +{re.escape(text)}$", shown, re.MULTILINE)
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "from apr_tui" not in shown
    assert main([]) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("name", sorted(PARSED))
def test_help_of_a_command(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["help", name]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: apr {name}")
    text, _, examples = shown.partition("\nexamples:\n")
    assert all(len(line) <= 80 for line in text.splitlines())
    assert 2 <= len(examples.splitlines()) <= 3
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize(("name", "parser"), [pair for pair in parsers() if pair[0].split()[0] in PARSED])
def test_every_option_is_told_with_its_default(name: str, parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:
        assert action.help, (name, action.dest)
        if action.option_strings and action.default not in (None, False, argparse.SUPPRESS):
            assert "default" in action.help, (name, action.dest)


def test_every_example_is_a_command_that_is_taken() -> None:
    """As far as its parser can tell; files that an example before has made are not there."""
    known = dict(parsers())
    found = 0
    for parser in known.values():
        for line in (parser.epilog or "").splitlines()[1:]:
            for command in line.partition(" #")[0].partition(" >")[0].split(";"):
                words = shlex.split(command)
                words = words[words.index("apr") + 1 :]
                kind = " ".join(words[:2])
                of = kind if kind in known else words[0]
                known[of].parse_known_args(words[len(of.split()) :])
                assert words[0] in known
                found += 1
    assert found > 20


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["slove"], "apr: there is no command 'slove'; did you mean solve? (see `apr --help`)"),
        (["monitro"], "did you mean monitor?"),
        (["wholly-else"], "apr: there is no command 'wholly-else' (see `apr --help`)"),
        (["help", "slove"], "did you mean solve?"),
        ([*SOLVE, "--targt", "27"], "apr solve: there is no option --targt; did you mean --target? (see"),
        ([*SOLVE, "--temprature=1"], "did you mean --temperature?"),
        ([*SOLVE, "--method", "ap"], "apr solve: --method: 'ap' is none of apr, sos+; did you mean apr? (see"),
        ([*SOLVE, "--join", "frist"], "--join: 'frist' is none of all, first; did you mean first?"),
        (
            [*SOLVE, "--engine", "nativ"],
            "choose one of native, sglang, torch, or module:attribute; did you mean native?",
        ),
        ([*SOLVE, "--task", "sudko"], "or module:attribute; did you mean sudoku?"),
        ([*SOLVE, "--budget", "fre"], "--budget: 'fre' is neither a whole number from 0 on nor 'free'"),
        (["eval", "--budget", "fre"], "--budget: 'fre' is neither a whole number from 0 on nor 'free'"),
        (["eval", "--splt", "val"], "did you mean --split?"),
        (["problems", "--split", "tset"], "'tset' is none of train, val, test; did you mean test?"),
        (["train", "sfx"], "KIND: 'sfx' is none of sft, rl; did you mean sft?"),
        (["train", "sft", "--out", "x", "--recip", "tiny"], "did you mean --recipe?"),
        (["traces", "--count", "1", "--out", "x", "--formt", "both"], "did you mean --format?"),
        (["train", "sft", "--out", "x", "--recipe", "tinny"], "or give a .toml file; did you mean tiny?"),
        (["completion", "bsh"], "'bsh' is none of bash, zsh, tcsh; did you mean bash?"),
        (["problems", "more"], "apr problems: nothing takes 'more'"),
    ],
)
def test_what_is_meant_is_suggested(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told in said(capsys, *words)


@pytest.mark.parametrize(
    "words",
    [
        [*SOLVE, "--server", "http://x"],
        ["eval", "--server", "http://x"],
        ["serve", "--server", "http://x"],
        ["serve", "--language", "tags"],
        ["serve", "--threads", "--server", "http://x"],
        ["train", "rl", "--out", "x", "--server", "http://x"],
        ["solve", "--replay", "x", "--server", "http://x"],
        ["solve", "--replay", "x", "--temperature", "1"],
        ["solve", "1", "2", "--replay", "x", "--target", "3"],
    ],
)
def test_an_option_that_would_change_nothing_is_refused(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("apr.policy.load_policy", lambda *_, **__: pytest.fail("a model is loaded"))
    assert "a problem" in (told := said(capsys, *words)) or words[-2] in told
    assert not list(tmp_path.iterdir())


def test_a_command_that_is_not_installed_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("apr.cli.commands.entry_points", lambda **_: [])
    for name, extra in EXTRAS.items():
        assert f"--extra {extra}`" in said(capsys, name)


def test_the_method_finds_its_model_or_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    short = ["solve", "3", "4", "--target", "7", "--max-tokens", "8"]
    assert main([*short, "--method", "sos+"]) == 1
    assert "   sos+, free budget, greedy" in capsys.readouterr().out
    shipped = Path(str(solve_parser.__globals__["__file__"])).parents[1] / "checkpoints" / "sos-plus-tiny"
    assert main([*short, "--model", str(shipped)]) == 1
    assert "   sos+, free budget" in capsys.readouterr().out
    assert "was trained for the method sos+, not apr" in said(
        capsys, *short, "--model", str(shipped), "--method", "apr"
    )


# completion


def completed(script: str, *words: str) -> set[str]:
    """What bash offers for the last word."""
    line = " ".join(map(shlex.quote, words))
    code = f'source /dev/stdin; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _shtab_apr; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", code], input=script, capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


def test_completion_knows_commands_options_and_choices(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert completed(script, "apr", "s") == {"solve", "serve"}
    assert {"--target", "--budget", "--engine"} <= completed(script, "apr", "solve", "--")
    assert completed(script, "apr", "eval", "--method", "") == {"apr", "sos+"}
    assert completed(script, "apr", "train", "") == {"sft", "rl"}
    assert completed(script, "apr", "train", "rl", "--engine", "s") == {"sglang"}
    assert {"countdown", "sudoku"} <= completed(script, "apr", "problems", "--task", "")
    assert {*own(), *EXTRAS} == completed(script, "apr", "help", "")


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_completion_of_other_shells(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    assert "solve" in capsys.readouterr().out
