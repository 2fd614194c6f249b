"""Reinforcement learning over whole thread trees (GRPO; paper, section 3.3).

A step samples groups of rollouts with the present weights, takes one advantage a rollout for all its threads, and
updates the weights on the tokens that the policy itself sampled. What a checkpoint holds decides every later step, so a
killed run goes on as if it had not been.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from apr.engine.base import Engine, EngineError
from apr.origin import Origin
from apr.policy import Policy
from apr.selection import selected
from apr.task import Task
from apr.threads.events import EventLog
from apr.threads.language import Language, Trainable
from apr.train.model import trained_model
from apr.train.optimizers import Diverged, keep_freed_memory
from apr.train.phase import Phase, nobody
from apr.train.precision import compute_dtype
from apr.train.processes import Processes
from apr.train.recipes import CreditConfig, RlConfig
from apr.train.rl.check import check
from apr.train.rl.credit import credits_of
from apr.train.rl.edge import Edge
from apr.train.rl.groups import Draw, Group, draw, draw_groups, draw_validation, failure, run_groups
from apr.train.rl.handover import HandOver
from apr.train.rl.learner import Learner
from apr.train.rl.metrics import Alarms, credited, records, summarise, timings
from apr.train.rl.packs import Row, judged_rollouts, rows_of
from apr.train.rl.publish import Served
from apr.train.rl.replay import Replayed
from apr.train.rl.watched import write_group
from apr.train.run import RunDirectory
from apr.train.shards import set_weights, weights_of
from apr.train.state import TrainerState
from apr.train.stop import Stop

OpenEngine = Callable[[PreTrainedModel, Path], Engine]
"""Makes the engine that samples: from the trainer's model, or from a directory with the same weights."""


class GrpoTrainer:
    """A run of reinforcement learning in a directory."""

    def __init__(
        self,
        config: RlConfig,
        run: RunDirectory,
        task: Task[Any],
        language: Language,
        open_engine: OpenEngine,
        *,
        start_from: str | Path | None = None,
        device: str = "cpu",
        hand_over: HandOver = "directory",
    ) -> None:
        """Begin with the weights in `start_from`, or those that the run keeps as its start; or go on from the run's
        newest checkpoint. `hand_over` is how servers get weights."""
        self.config = config
        self.run = run
        self.processes = Processes(torch.device(device))
        if not isinstance(language, Trainable):
            raise ValueError(f"language: no model is trained in {language.name} over a tokenizer of others")
        begin = run.start if start_from is None else Path(start_from)
        check(task, language, config, begin, run.lessons(), several=self.processes.count > 1)
        self.language = language
        self.tokenizer = language.tokenizer
        self.origin = Origin(task.name, language.name, config.method)
        self.step = 0
        """Steps done."""
        self.position = 0
        """The first task that no step has taken yet."""
        self.sampled = 0
        """Tokens sampled so far, for groups that were drawn and not kept too."""
        self.edge = Edge(config.edge)
        self._lesson = 0
        """The first lesson that no step has taken yet."""
        self.alarms = Alarms()
        self._ahead: Future[Draw | None] | None = None
        """The next step's rollouts, where steps overlap."""
        self._behind: dict[str, Tensor] | None = None
        """The weights that they are drawn with: those before the last update."""
        self._sampled = False
        """The engine has sampled with the weights that it has."""
        self._untold: dict[str, Any] | None = None
        """The line of the last step, where its validation was cut short."""
        self._stop = Stop()
        self._phase: Phase = nobody
        if device == "cpu":
            keep_freed_memory()
        if start_from is not None and self.processes.rank == 0:
            run.keep_start(Path(start_from))
        self.processes.wait()
        latest, start = run.latest(), run.whole_start()
        if start is None:
            raise ValueError(f"{run.path} keeps no policy to begin with")
        source = latest or start
        model = self._load(source)
        reference = self._load(start) if config.loss.kl else None
        self.learner = Learner(config, model, reference, language, self.processes)
        self._replayed = self._lessons(model.config, start)
        torch.manual_seed(config.seed)
        if latest:
            self._restore(latest)
        self.saved = self.step
        """The step of the newest checkpoint; 0: there is none."""
        self._whole = True
        """The weights are those of the last step, and its line is written."""
        if self.processes.rank == 0:
            run.rewind(self.step)
            if self._replayed is not None:
                run.keep_lessons(self._replayed.recipe)
        self.processes.wait()
        entries = run.entries()
        if entries and entries[-1]["step"] == self.step:
            # It was told by a run that saved no checkpoint since.
            self._untold = None
        for line in (*entries, *([self._untold] if self._untold else [])):
            self.alarms.look(line)
        task = selected(task, config.problem_options)
        probe = language.open(task.prompt(draw(task, config, 0, 1)[0].problem, None))
        engine = open_engine(model, source)
        # Whoever opens a shared server late must find it as it was.
        self.processes.wait()
        try:
            if config.overlap and getattr(engine, "model", None) is model:
                raise ValueError("overlap: this engine samples with the very weights that train")
            dtype = compute_dtype(config.autocast, self.processes.device)
            self.engine = Served(engine, model, self.tokenizer, probe, self.processes, hand_over, dtype)
            self.policy = Policy(self.engine, task, language, config.method)
        except BaseException:
            asyncio.run(engine.close())
            raise

    @property
    def done(self) -> bool:
        """The run is at its end."""
        return self.step >= self.config.steps or self._spent(self.sampled)

    @property
    def idle(self) -> bool:
        """Nothing is left to do: the run is at its end, and its last line is told."""
        return self.done and self._untold is None

    def train(
        self,
        watch: Callable[[dict[str, Any]], None],
        *,
        until: int | None = None,
        stop: Stop | None = None,
        phase: Phase = nobody,
    ) -> None:
        """Train to the recipe's last step, or to step `until`, or until it is asked to stop; leave a checkpoint there.
        `watch` gets each step's log line, `phase` is told what is being done.

        EngineError if nothing can be sampled any more, Diverged if a number is not finite, OSError if nothing can be
        written, ValueError if there are no problems any more: the run then goes on from its newest checkpoint, which is
        the last step's where its weights are there.
        """
        self._phase = phase
        try:
            # Whatever is being drawn in the end is for nobody.
            with ThreadPoolExecutor(1, "apr-rollouts") as sampler, (stop or Stop()).inner() as self._stop:
                self._train(sampler, min(until or self.config.steps, self.config.steps), watch)
        finally:
            self._stop, self._ahead = Stop(), None

    def _train(self, sampler: ThreadPoolExecutor, until: int, watch: Callable[[dict[str, Any]], None]) -> None:
        try:
            self._serve(sampler)
            if self._untold is not None:
                self._tell(self._untold, watch)
            while self.step < until and not self.done and not self.processes.any(self._stop.asked):
                line = self._run_step(sampler, ahead=self.config.overlap and self.step + 1 < until)
                if line is None:
                    break
                self._tell(line, watch)
                if (every := self.config.checkpoint_every) and self.step % every == 0 and self._untold is None:
                    self.save()
            self._leave()
        except Exception as error:
            # Of several processes all come upon these, and one alone upon others.
            if self._whole and (self.processes.count == 1 or isinstance(error, EngineError | Diverged | ValueError)):
                self._leave()
            raise

    def close(self) -> None:
        """Release the engine."""
        asyncio.run(self.engine.close())

    def validate(self) -> dict[str, float] | None:
        """Greedy, one rollout of each validation problem; None if it was stopped."""
        self._phase("validating")
        own = draw_validation(self.policy.task, self.config)[self.processes.rank :: self.processes.count]
        work = run_groups(own, self.policy, self.config, size=1, temperature=0.0)
        self._sampled = True
        groups = asyncio.run(self._stop.attempt(work))
        if self.processes.any(groups is None):
            return None
        found = summarise(self.processes.gather(records(self.policy.task, groups or [])))
        names = {"accuracy": "solved", "children": "children", "tokens": "total_tokens"}
        return {f"validation_{ours}": found[name] for ours, name in names.items() if name in found}

    def save(self) -> None:
        """Leave a checkpoint of this step."""
        self._phase("saving")
        learner, replayed, keep = self.learner, self._replayed, self.config.keep_checkpoints
        moved = learner.reference if self.config.loss.renew_reference else None
        state = TrainerState(
            self.step,
            self.position,
            self._behind,
            self._untold,
            self.sampled,
            dict(self.edge.kinds),
            self._lesson,
            None if replayed is None else replayed.digest,
            None if moved is None else weights_of(moved),
        )
        state.save(self.run, learner.model, self.tokenizer, learner.optimizers, keep, self.origin, self.processes)
        self.saved = self.step

    def _restore(self, checkpoint: Path) -> None:
        state = TrainerState.restore(checkpoint, self.learner.model, self.learner.optimizers)
        self.step, self.position, self.sampled = state.step, state.position, state.sampled
        self._behind, self._untold = state.behind, state.untold
        self.edge, self._lesson = Edge(self.config.edge, state.kinds), state.lessons
        if state.reference is not None and self.learner.reference is not None:
            set_weights(self.learner.reference, state.reference)
        if self._replayed is not None and self._replayed.digest != state.lessons_digest:
            raise ValueError("lessons.toml is no longer what the run began with")

    def _lessons(self, model: PretrainedConfig, start: Path) -> Replayed | None:
        wanted = self.config.replay
        if wanted is None:
            return None
        return Replayed(wanted, self.config, self.tokenizer, model, start, self.run.lessons(), self.processes)

    def _spent(self, sampled: int) -> bool:
        return self.config.sampled_tokens is not None and sampled >= self.config.sampled_tokens

    def _leave(self) -> None:
        if self.step > self.saved:
            self.save()

    def _serve(self, sampler: ThreadPoolExecutor) -> None:
        """Have the engine serve this run's weights, whatever it served before; the next step's rollouts are drawn first
        where they are a step behind."""
        if self._behind is not None and not self.done:
            model = self.learner.model
            now = _copy(model)
            set_weights(model, self._behind)
            self._publish(self.step - 1)
            self._ahead = self._draw(sampler, self.step + 1, self.position, self.edge)
            self._ahead.exception()
            set_weights(model, now)
        self._publish(self.step)

    def _publish(self, steps: int) -> None:
        asyncio.run(self.engine.publish(steps))
        self._sampled = False

    def _draw(self, sampler: ThreadPoolExecutor, step: int, position: int, edge: Edge) -> Future[Draw | None]:
        """Begin to draw the rollouts of a step, on the sampler's thread in any case: a signal finds this one."""
        if self._sampled:
            # No cache holds what was sampled before: a run that went on from here would not have it either.
            self._publish(self.step)
        self._sampled = True
        return sampler.submit(self._sample, step, position, edge)

    def _tell(self, line: dict[str, Any], watch: Callable[[dict[str, Any]], None]) -> None:
        """Write a step's line, with what was held out where that is due."""
        every = self.config.validate_every
        if every and (self.step % every == 0 or self.done):
            begun = time.monotonic()
            figures = self.validate()
            if figures is None:
                self._untold = line
                return
            spent = round(time.monotonic() - begun, 3)
            seconds = {**line["seconds"], "validate": spent}
            line = {**line, **figures, "seconds": seconds, "step_seconds": line["step_seconds"] + spent}
        if self.processes.rank == 0:
            self.run.log(line)
            watch(line)
        self._untold = None

    def _load(self, directory: Path) -> PreTrainedModel:
        return trained_model(directory, self.processes).eval()

    def _run_step(self, sampler: ThreadPoolExecutor, *, ahead: bool) -> dict[str, Any] | None:
        """What a step did; None if it was stopped before it did anything. `ahead`: draw for the next one meanwhile."""
        begun = time.monotonic()
        timed = self.learner.timed
        self.learner.seconds.clear()
        self._phase("sampling")
        with timed("wait"):
            coming = self._ahead or self._draw(sampler, self.step + 1, self.position, self.edge)
            drawn = coming.result()
        if self.processes.any(drawn is None) or drawn is None:
            return None
        groups = drawn.groups
        self.learner.seconds["generate"] = drawn.seconds
        metrics = summarise(self.processes.gather(records(self.policy.task, groups)))
        if metrics["failures"] == metrics["rollouts"]:
            raise EngineError(f"step {self.step + 1}: no rollout came to its end: {failure(groups)}")
        parts = self.processes.gather([(drawn.sampled, drawn.tried)])
        already, sampled = self.sampled, self.sampled + sum(tokens for tokens, _ in parts)
        edge = self.edge.after(one for _, tried in parts for one in tried)
        behind = _copy(self.learner.model) if self.config.overlap else None
        going_on = ahead and not self._spent(sampled)
        self._ahead = self._draw(sampler, self.step + 2, drawn.position, edge) if going_on else None
        lessons, lesson = self._replayed.draw(self._lesson) if self._replayed is not None else (None, 0)
        rows, judged = self._rows(groups)
        self._phase("training")
        self._whole = False
        try:
            told, before = self.learner.learn(rows, self.step, lessons)
        except Diverged as error:
            self._whole = not error.updated
            raise
        self.position, self._behind = drawn.position, behind
        self.sampled, self.edge, self._lesson = sampled, edge, lesson
        metrics |= {"sampled_tokens": sampled, **judged, **told}
        if drawn.watched is not None and self.processes.rank == 0:
            place = next((n for n, group in enumerate(groups) if group is drawn.watched), None)
            own = [row for row in rows if row.rollout.group == place]
            write_group(self.run.group(self.step + 1), self.policy.task, drawn.watched, own, before)
        if self._ahead is not None:
            with timed("wait"):
                self._ahead.exception()
        self.step += 1
        line = {"step": self.step, "steps": self.config.steps, **metrics, "policy_version": drawn.version}
        line |= {"memory": _memory(self.processes.device), "alarms": self.alarms.look(metrics)}
        tokens = {"generate": sampled - already, "train": metrics["trained_tokens"]}
        # The step is done, whatever becomes of the engine.
        self._untold, self._whole = line | timings(self.learner.seconds, begun, tokens), True
        self._phase("publishing weights")
        with timed("publish"):
            self._publish(self.step)
        return line | timings(self.learner.seconds, begun, tokens)

    def _rows(self, groups: Sequence[Group]) -> tuple[list[Row], dict[str, Any]]:
        """What a step learns from, and what there is to tell of what its tokens are worth."""
        config, credits, told = self.config, None, {}
        if config.credit != CreditConfig() or config.loss.outcome != "all":
            with self.learner.timed("judge"):
                credits = credits_of(groups, self.policy.task, self.language, config)
            counts: Counter[str] = Counter()
            for part in self.processes.gather([credit.counts for own in credits for credit in own]):
                counts.update(part)
            told["credit"] = credited(counts)
        if config.edge:
            told["edge"] = {kind: self.edge.share(kind) for kind in self.edge.kinds}
        rollouts = judged_rollouts(groups, config.loss, share_trunks=config.share_trunks, credits=credits)
        return rows_of(rollouts, config.loss, self.processes), told

    def _sample(self, step: int, position: int, edge: Edge) -> Draw | None:
        """The rollouts of a step; beside training where steps overlap, so it changes nothing here. None if it was
        stopped."""

        def draw(emit: Callable[[Any], None] | None) -> Draw | None:
            config, processes = self.config, self.processes
            return asyncio.run(draw_groups(self.policy, config, position, processes, emit, self._stop, edge))

        if self.processes.rank:
            return draw(None)
        path = self.run.watched(step)
        path.unlink(missing_ok=True)
        with EventLog(path) as log:
            return draw(log.append)


def _copy(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in weights_of(model).items()}


def _memory(device: torch.device) -> int:
    """Most bytes held so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
