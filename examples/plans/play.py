"""A dialogue in it, without a model."""

from pathlib import Path
from sys import argv

from plans import open_plans

from apr.task import Verdict
from apr.testing.scripted import ScriptedEngine
from apr.threads.run import run_threads


class Ask:
    """A task that asks its problem as it is, and believes every answer."""

    name = "ask"

    def prompt(self, problem, budget):
        return problem

    def to_json(self, problem):
        return {"prompt": problem}

    def judge(self, problem, answer, text):
        return Verdict(answer is not None, "believed")


class Script:
    """What the scripted engine asks of a tokenizer."""

    def __init__(self, tokenizer):
        self.eos = tokenizer.eos
        self.encode = lambda text: tokenizer.encode(text, special=False)
        self.decode = lambda ids: tokenizer.decode(ids, skip_special=True)


language = open_plans(Path(argv[1]), "apr")
begin = "2*3+4*5?\n<plan>\n2*3\n4*5\n</plan>"
texts = [
    f"{begin}\nNow only: 2*3\n6",
    f"{begin}\nNow only: 4*5\n20",
    f"{begin}\n<done>6</done>\n<done>20</done>\n<answer>26</answer>",
]
engine = ScriptedEngine(texts, Script(language.tokenizer))
tree = run_threads("2*3+4*5?", engine, task=Ask(), language=language)
for thread in tree.threads.values():
    print(f"--- thread {thread.id}, {thread.context} tokens long, found {thread.result!r}")
    print(thread.text)
