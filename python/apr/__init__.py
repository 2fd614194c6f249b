"""Adaptive parallel reasoning: language models that search in threads they spawn and join themselves.

Paper: "Learning Adaptive Parallel Reasoning with Language Models" (Pan et al., 2025, arXiv 2504.15466). The heavy
parts (torch, transformers, engines) load when they are used, not here.

    import apr

    tree = apr.load().run(apr.Problem([22, 26, 31, 53], 27))
    print(tree, tree.steps)
"""

from __future__ import annotations

from apr import _core
from apr._core import (
    GrammarError,
    Problem,
    Solution,
    Tokenizer,
    Trace,
    Verdict,
    can_reach,
    check_solution,
    check_trace,
    child_prompts,
    combine,
    heuristic,
    join,
    llama2_tokens,
    search_result,
    solve,
    solve_all,
    solve_shortest,
)
from apr.countdown.search import problems, search
from apr.engine import load_engine
from apr.limits import Limits
from apr.policy import Policy, PolicyError, load
from apr.threads import events
from apr.threads.run import rollout, run_threads
from apr.threads.tree import ThreadTree as Tree
from apr.types import Completion, Sample, SamplingParams, Segment

__version__ = _core.__version__

__all__ = [
    "Completion",
    "GrammarError",
    "Limits",
    "Policy",
    "PolicyError",
    "Problem",
    "Sample",
    "SamplingParams",
    "Segment",
    "Solution",
    "Tokenizer",
    "Trace",
    "Tree",
    "Verdict",
    "can_reach",
    "check_solution",
    "check_trace",
    "child_prompts",
    "combine",
    "events",
    "heuristic",
    "join",
    "llama2_tokens",
    "load",
    "load_engine",
    "problems",
    "rollout",
    "run_threads",
    "search",
    "search_result",
    "solve",
    "solve_all",
    "solve_shortest",
]
