"""Reinforcement learning over whole thread trees (GRPO; paper, section 3.3).

A step samples groups of rollouts with the present weights, takes one advantage a rollout for all its threads, and
updates the weights on the tokens that the policy itself sampled. What a checkpoint holds decides every later step, so a
killed run goes on as if it had not been.
"""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from apr import _core
from apr.config import RlConfig
from apr.engine.base import Engine, EngineError
from apr.events import EventLog
from apr.files import write_atomically
from apr.grammar import Grammar
from apr.groups import Draw, Group, draw_groups, run_groups, tasks, validation_tasks
from apr.learner import Learner
from apr.model import CAUSAL, load_model, save_model
from apr.optimizers import keep_freed_memory
from apr.packs import Row, judged_rollouts, rows_of
from apr.processes import Processes
from apr.publish import publisher
from apr.run import RunDirectory
from apr.step_metrics import Alarms, records, summarise
from apr.trainer_state import TrainerState

OpenEngine = Callable[[LlamaForCausalLM, Path], Engine]
"""Makes the engine that samples: from the trainer's model, or from a directory with the same weights."""


class GrpoTrainer:
    """A run of reinforcement learning in a directory."""

    def __init__(
        self,
        config: RlConfig,
        run: RunDirectory,
        grammar: Grammar,
        open_engine: OpenEngine,
        *,
        start_from: str | Path,
        device: str = "cpu",
    ) -> None:
        """Begin with the weights in `start_from`, or go on from the run's newest checkpoint."""
        self.config = config
        self.run = run
        self.grammar = grammar
        self.processes = Processes(torch.device(device))
        self.tokenizer = _core.Tokenizer()
        self.step = 0
        """Steps done; the version of the policy too."""
        self.position = 0
        """The first task that no step has taken yet."""
        self.alarms = Alarms()
        self._ahead: Future[Draw] | None = None
        """The next step's rollouts, where steps overlap."""
        if device == "cpu":
            keep_freed_memory()
        if self.processes.rank == 0:
            self._keep_start(start_from)
        self.processes.wait()
        latest = run.latest()
        source = latest or run.start
        model = self._load(source)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        reference = self._load(run.start) if config.loss.kl else None
        self.learner = Learner(config, model, reference, self.tokenizer, self.processes)
        torch.manual_seed(config.seed)
        if latest:
            self._go_on(latest)
        self.engine = open_engine(model, source)
        if config.overlap and getattr(self.engine, "model", None) is model:
            raise ValueError("overlap: this engine samples with the very weights that train")
        if config.overlap and config.refill and self.processes.count > 1:
            raise ValueError("overlap and refill: several processes cannot do both")
        probe = grammar.open(grammar.prompt(tasks(config, 0, 1)[0].problem, None))
        self._publish = publisher(self.engine, model, self.tokenizer, probe)

    def train(self, watch: Callable[[dict[str, Any]], None], *, until: int | None = None) -> None:
        """Train to the recipe's last step, or to step `until`; `watch` gets each step's log line.

        EngineError if nothing can be sampled any more.
        """
        last = min(self.config.steps, until or self.config.steps)
        # A server that was running before serves whatever it likes.
        asyncio.run(_run(self._publish))
        with ThreadPoolExecutor(1, thread_name_prefix="apr-rollouts") as sampler:
            while self.step < last:
                line = self._run_step(sampler, ahead=self.config.overlap and self.step + 1 < last)
                if self.processes.rank == 0:
                    self.run.log(line)
                    watch(line)
                if self.step % self.config.checkpoint_every == 0 or self.step == last:
                    self.save()

    def close(self) -> None:
        """Release the engine."""
        asyncio.run(self.engine.close())

    def validate(self) -> dict[str, float]:
        """Greedy, one rollout of each validation problem."""
        own = validation_tasks(self.config)[self.processes.rank :: self.processes.count]
        groups = asyncio.run(run_groups(own, self.engine, self.grammar, self.config, size=1, temperature=0.0))
        found = summarise(self.processes.gather(records(groups)))
        names = {"accuracy": "solved", "children": "children", "tokens": "total_tokens"}
        return {f"validation_{ours}": found[name] for ours, name in names.items() if name in found}

    def save(self) -> None:
        """Leave a checkpoint of this step."""

        if self.processes.rank == 0:
            state, learner = TrainerState(self.step, self.position), self.learner
            state.save(self.run, learner.model, self.tokenizer, learner.optimizers, self.config.keep_checkpoints)
        self.processes.wait()

    def _go_on(self, checkpoint: Path) -> None:
        state = TrainerState.restore(checkpoint, self.learner.optimizers, self.processes.device)
        self.step, self.position = state.step, state.position
        if self.processes.rank == 0:
            self.run.rewind(self.step)
        self.processes.wait()
        for entry in self.run.entries():
            self.alarms.look(entry)

    def _load(self, directory: Path) -> LlamaForCausalLM:
        return load_model(directory, attention=CAUSAL).to(self.processes.device).eval()

    def _keep_start(self, start_from: str | Path) -> None:
        """The run holds what it began with: the KL's reference, and where it begins anew without a checkpoint."""
        if self.run.start.exists():
            return
        draft = self.run.path / ".start.partial"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        save_model(load_model(start_from), self.tokenizer, draft)
        draft.rename(self.run.start)

    def _run_step(self, sampler: ThreadPoolExecutor, *, ahead: bool) -> dict[str, Any]:
        begun = time.monotonic()
        timed = self.learner.timed
        self.learner.seconds.clear()
        with timed("wait"):
            # On the sampler's thread in any case, so that a signal finds this one.
            coming = self._ahead or sampler.submit(self._sample, self.step + 1, self.position)
            drawn = coming.result()
        groups, self.position = drawn.groups, drawn.position
        self.learner.seconds["generate"] = drawn.seconds
        self._ahead = sampler.submit(self._sample, self.step + 2, drawn.position) if ahead else None
        metrics = summarise(self.processes.gather(records(groups)))
        if metrics["failures"] == metrics["rollouts"]:
            raise EngineError(f"step {self.step + 1}: no rollout came to its end: {_failure(groups)}")
        rollouts = judged_rollouts(groups, self.config.loss, share_trunks=self.config.share_trunks)
        rows = rows_of(rollouts, self.config.loss, self.processes)
        told, before = self.learner.learn(rows, self.step)
        metrics |= told
        if groups and self.processes.rank == 0:
            self._write_group(groups[0], [row for row in rows if row.rollout.group == 0], before)
        if self._ahead is not None:
            with timed("wait"):
                self._ahead.exception()
        with timed("publish"):
            asyncio.run(_run(self._publish))
        self.step += 1
        if self.step % self.config.validate_every == 0 or self.step == self.config.steps:
            with timed("validate"):
                metrics |= self.validate()
        seconds = {name: round(spent, 3) for name, spent in self.learner.seconds.items()}
        trained = metrics["trained_tokens"]
        speeds = {
            "generate": metrics.get("tokens", 0) / max(1e-3, seconds["generate"]),
            "train": trained / max(1e-3, seconds["train"]),
        }
        return {
            "step": self.step,
            "steps": self.config.steps,
            **metrics,
            "policy_version": self.step,
            "seconds": seconds,
            "step_seconds": round(time.monotonic() - begun, 3),
            "tokens_per_second": {name: round(speed, 1) for name, speed in speeds.items()},
            "memory": _memory(self.processes.device),
            "alarms": self.alarms.look(metrics),
        }

    def _sample(self, step: int, position: int) -> Draw:
        """The rollouts of a step; beside training where steps overlap, so it changes nothing here."""

        def draw(emit: Callable[[Any], None] | None) -> Draw:
            work = draw_groups(self.engine, self.grammar, self.config, position, self.processes, emit)
            return asyncio.run(work)

        if self.processes.rank:
            return draw(None)
        path = self.run.watched(step)
        path.unlink(missing_ok=True)
        with EventLog(path) as log:
            return draw(log.append)

    def _write_group(self, group: Group, rows: Sequence[Row], before: dict[int, Tensor]) -> None:
        """What the tokens of a group were worth, for whoever looks at the run."""
        path = self.run.group(self.step + 1)
        path.parent.mkdir(exist_ok=True)
        rollouts = []
        for member, (tree, reward) in enumerate(zip(group.trees, group.rewards, strict=True)):
            own = [row for row in rows if row.rollout.member == member]
            threads = {
                thread.id: {
                    "tokens": [token for call in thread.calls for token in call.sampled],
                    "logprobs": [logprob for call in thread.calls for logprob in call.logprobs],
                    "trainer": [p for row in own if row.sample.thread == thread.id for p in before[id(row)].tolist()],
                }
                for thread in tree.threads.values()
            }
            advantage = own[0].rollout.advantage if own else 0.0
            told = {"reward": reward, "advantage": advantage, "threads": threads}
            rollouts.append({"rollout": tree.started.rollout if tree.started else "", **told})
        problem = self.grammar.describe(group.task.problem)
        write_atomically(path, json.dumps({"problem": problem, "rollouts": rollouts}, separators=(",", ":")))


async def _run(work: Callable[[], Any]) -> Any:
    return await work()


def _failure(groups: Sequence[Group]) -> str:
    """What the engine said of the first failed thread."""
    for group in groups:
        for tree in group.trees:
            for thread in tree.threads.values():
                if thread.reason == "engine_error":
                    return thread.detail or "an engine error without a word"
    return "there were none"


def _memory(device: torch.device) -> int:
    """Most bytes held so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
