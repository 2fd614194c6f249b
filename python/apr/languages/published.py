"""Published ways to fork and join, each as its papers and code describe it, in this project's own words.

What a model was trained on beyond the text (positions that siblings share, masks between them) has no place here: every
thread is a plain sequence, so each of these runs on any engine as it is. `Markup.inherits` tells children that begin
with all that their parent holds from those with a prompt of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from apr.jsonl import parse
from apr.languages.markup import Marked, Markup, Results, between, last_answer
from apr.task import Method
from apr.tokenizer import ForeignTokenizer

# ThreadWeaver (Lian et al., 2025): the parent names outlines, a child works one of them out behind all that the parent
# wrote, and their texts stand behind the outlines as if written there.

_OUTLINE = re.compile(r"<Outline>\s*(\d{1,9}(?:\.\d{1,9}){0,9})\s*:([^<]*)")


def _outlines(text: str) -> list[str]:
    named = _OUTLINE.findall(text[text.rfind("<Outlines>") :]) if "<Outlines>" in text else []
    if not named:
        raise ValueError("outlines end, but none has a number")
    first: dict[str, str] = {}
    for number, said in named:
        first.setdefault(number, said.strip())
    return [f"{number}: {said}" for number, said in first.items()]


def _paths(behind: str) -> Callable[[Results, Collection[int]], str]:
    """Whole texts of children, then what the parent goes on with."""
    return lambda results, cancelled: "".join(text for text in results if text is not None) + behind


THREADWEAVER = Markup(
    name="threadweaver",
    spawn="</Outlines>",
    children=_outlines,
    words=("<Outlines>", "<Outline>", "</Outline>", "<Thread>", "<Conclusion>", "</Conclusion>"),
    inherits=True,
    header=lambda place, said, parent: f"\n<Thread>\n{said.partition(':')[0]}:",
    end="</Thread>",
    result=None,
    join=_paths("\n<Conclusion>\n"),
    nests=False,
)

# Parallel-R1 (Zheng et al., 2025): a fixed number of paths from the same place, then a summary of them.


def parallel_r1(paths: int) -> Markup:
    """The markup for so many paths of one block."""
    return Markup(
        name="parallel-r1",
        spawn="<Parallel>",
        children=lambda text: [f"path {place + 1}" for place in range(paths)],
        words=("</Parallel>", "<Path>", "<Summary>", "</Summary>"),
        inherits=True,
        header=lambda place, said, parent: "\n<Path>",
        end="</Path>",
        result=None,
        join=_paths("\n</Parallel>\n<Summary>"),
        nests=False,
    )


PARALLEL_R1 = parallel_r1(2)

# launch_threads: tasks in tags; a child is asked anew, told the problem and what its parent wrote.

_LAUNCHED = re.compile(r"\s+id\s{0,9}=\s{0,9}['\"]?(\w{1,32})['\"]?\s{0,9}>(.*)", re.DOTALL)
_LAUNCH_SYSTEM = (
    "Think step by step. To have parts worked out at the same time, write <launch_threads> with a "
    "<thread id='0'><task>...</task><objective>...</objective></thread> for each and </launch_threads>. "
    "Their results are given to you in <step_resolution>. End with <answer>...</answer>."
)
_LAUNCHED_SYSTEM = (
    "You are one thread of a larger piece of work. Do only your own task, and end with "
    "<thread_result id='...'>...</thread_result>, which is all that the others will see."
)


def _launched(text: str) -> list[str]:
    block = text[text.rfind("<launch_threads>") :] if "<launch_threads>" in text else ""
    threads: dict[str, str] = {}
    for thread in block.split("</thread>")[:-1]:
        read = _LAUNCHED.match(thread.partition("<thread")[2])
        if read is None:
            raise ValueError("a thread ends that has no id")
        if read[1] in threads:
            raise ValueError(f"two threads have the id {read[1]}")
        threads[read[1]] = read[2].strip()
    if not threads:
        raise ValueError("threads are launched, but none is closed")
    return [f"{name}\n{said}" for name, said in threads.items()]


def _launch(place: int, said: str, parent: str) -> str:
    name, _, task = said.partition("\n")
    return f"{parent.strip()}\n\n<thread id='{name}'>{task}</thread>"


def _thread_result(written: str) -> str | None:
    result = written.removesuffix("</thread_result>").rpartition("<thread_result")[2]
    return result.partition(">")[2].strip() or None


def _resolution(results: Results, cancelled: Collection[int]) -> str:
    lines = [f"<thread_result id='{place}'>{text}</thread_result>" for place, text in enumerate(results) if text]
    return "\n".join(("", "<step_resolution>", *lines, "</step_resolution>", ""))


LAUNCH_THREADS = Markup(
    name="launch-threads",
    spawn="</launch_threads>",
    children=_launched,
    words=(*("<launch_threads>", "<thread", "</thread>", "<step_resolution>", "</step_resolution>"),),
    header=_launch,
    end="</thread_result>",
    result=_thread_result,
    join=_resolution,
    system=_LAUNCH_SYSTEM,
    child_system=_LAUNCHED_SYSTEM,
)

# Tool calls of chat models, in the form of Hermes: SELFCEST clones itself, WideSeek-R1 has sub agents.

_CALL, _CALLED = "<tool_call>", "</tool_call>"
_REPLY = "<tool_response>\n{}\n</tool_response>"


def _called(text: str, name: str) -> dict[str, Any]:
    """The arguments of the last tool call. ValueError if it is none, or of another tool."""
    calls = between(text, _CALL, _CALLED)
    if not calls:
        raise ValueError("a tool call ends but never begins")
    try:
        call = parse(calls[-1].strip())
    except ValueError as error:
        raise ValueError(f"a tool call that is not JSON: {error}") from None
    if not isinstance(call, dict) or call.get("name") != name:
        raise ValueError(f"a tool call, but not of {name}")
    arguments = call.get("arguments")
    if not isinstance(arguments, dict):
        raise ValueError(f"{name} is called without arguments")
    return arguments


def _texts(values: Any, what: str) -> list[str]:
    if not isinstance(values, list) or not values or not all(isinstance(one, str) and one.strip() for one in values):
        raise ValueError(f"{what} is no list of texts")
    return values


def _answers(results: Results, cancelled: Collection[int]) -> str:
    told = [{"id": place, "answer": text} for place, text in enumerate(results)]
    return _REPLY.format(json.dumps(told, ensure_ascii=False))


def _tools(name: str, what: str, parameters: dict[str, Any]) -> str:
    tool = {"name": name, "description": what, "parameters": {"type": "object", "properties": parameters}}
    call = f'{{"name": "{name}", "arguments": {{...}}}}'
    return (
        f"You have one tool:\n<tools>\n{json.dumps(tool)}\n</tools>\n"
        f"Call it by writing {_CALL}\n{call}\n{_CALLED}. End with <answer>...</answer>."
    )


def _objectives(text: str) -> list[str]:
    arguments = _called(text, "spawn_clone")
    shared = arguments.get("shared_context", "")
    if not isinstance(shared, str):
        raise ValueError("shared_context is no text")
    return [f"{shared}\n\n{one}".strip() for one in _texts(arguments.get("objectives"), "objectives")]


_TEXTS = {"type": "array", "items": {"type": "string"}}
_TOOL = Markup(
    name="tools",
    spawn=_CALLED,
    children=_objectives,
    words=(_CALL, _CALLED, "<tool_response>", "</tool_response>"),
    join=_answers,
    turns=True,
    nests=False,
)
CLONES = replace(
    _TOOL,
    name="clones",
    most=30,
    child_tokens=256,
    system=_tools(
        "spawn_clone",
        "Copies of yourself work on objectives at the same time and answer shortly.",
        {"objectives": _TEXTS, "shared_context": {"type": "string"}},
    ),
    child_system="Work on the objective that you are given, and answer shortly.",
)


def _agents(text: str) -> list[str]:
    agents = _called(text, "create_sub_agents").get("sub_agents")
    if not isinstance(agents, list) or not all(isinstance(agent, dict) for agent in agents):
        raise ValueError("sub_agents is no list of objects")
    return _texts([agent.get("prompt") for agent in agents], "the prompts of sub_agents")


SUB_AGENTS = replace(
    _TOOL,
    name="sub-agents",
    children=_agents,
    most=10,
    system=_tools(
        "create_sub_agents",
        "Agents work on prompts of their own at the same time and report what they found.",
        {"sub_agents": {"type": "array", "items": {"type": "object", "properties": {"prompt": {"type": "string"}}}}},
    ),
    child_system="Find out what you are asked, and report it.",
)

# Context folding: one branch that holds all of the history, and whose message alone comes back.

_FUNCTION_END = "</function>"


def _branch(text: str) -> list[str]:
    call = text[text.rfind("<function=branch>") :] if "<function=branch>" in text else ""
    prompts = between(call, "<parameter=prompt>", "</parameter>")
    if len(prompts) != 1 or not prompts[0].strip():
        raise ValueError("a function ends that is no branch with one prompt")
    return [prompts[0].strip()]


def _message(written: str) -> str | None:
    call = written[written.rfind("<function=return>") :] if "<function=return>" in written else ""
    messages = between(call, "<parameter=message>", "</parameter>")
    return (messages[-1].strip() or None) if messages else None


def _folded(results: Results, cancelled: Collection[int]) -> str:
    return "".join(
        f"\n<function_result>\n{text or 'The branch returned nothing.'}\n</function_result>\n" for text in results
    )


FOLDING = Markup(
    name="folding",
    spawn=_FUNCTION_END,
    children=_branch,
    words=("<function=", _FUNCTION_END, "<parameter=", "</parameter>", "<function_result>", "</function_result>"),
    inherits=True,
    header=lambda place, said, parent: f"\n<branch>\n{said}\n</branch>\n",
    result=_message,
    join=_folded,
    nests=False,
)

# Parallel answers, the simplest of all, which asks nothing of a model but to answer: some answers to the same question,
# then one that has read them.

_ASKED_AGAIN = "Answer it yourself, with the best of them."


def answers(count: int) -> Markup:
    """The markup for so many answers."""

    def told(results: Results, cancelled: Collection[int]) -> str:
        given = [f"{number}. {text}" for number, text in enumerate(filter(None, results), 1)]
        return "\n\n".join(["These are answers of others to it:", *given, _ASKED_AGAIN])

    return Markup(
        name="answers",
        spawn=None,
        children=lambda text: [f"answer {place + 1}" for place in range(count)],
        words=(),
        inherits=True,
        header=lambda place, said, parent: "",
        join=told,
        answer=lambda written: last_answer(written.rpartition(_ASKED_AGAIN)[2]),
        turns=True,
        first=True,
        nests=False,
        child_temperature=0.7,
    )


ANSWERS = answers(4)

MARKUPS = {
    markup.name: markup for markup in (THREADWEAVER, PARALLEL_R1, LAUNCH_THREADS, CLONES, SUB_AGENTS, FOLDING, ANSWERS)
}


def opens(markup: Markup) -> Callable[[Path | None, Method], Marked]:
    """What opens a markup over a checkpoint's tokenizer; an entry point of the group `apr.languages` names it."""

    def open_markup(directory: Path | None, method: Method) -> Marked:
        if directory is None:
            raise ValueError(f"{markup.name} is written over a checkpoint's own tokenizer, and none is named")
        return Marked(markup, method, ForeignTokenizer.read(directory))

    return open_markup


open_threadweaver = opens(THREADWEAVER)
open_parallel_r1 = opens(PARALLEL_R1)
open_launch_threads = opens(LAUNCH_THREADS)
open_clones = opens(CLONES)
open_sub_agents = opens(SUB_AGENTS)
open_folding = opens(FOLDING)
open_answers = opens(ANSWERS)
