"""A trainer's weights on their way to SGLang servers: each server gets them once, whoever uses it.

Processes may share servers, or have some of their own. A server is updated by the first process that uses it; all go on
when all servers have the weights, or none does.
"""

from __future__ import annotations

import asyncio
import contextlib
from itertools import chain

import torch
from transformers import PreTrainedModel

from apr.engine.base import EngineError
from apr.engine.sglang.client import Probe, SglangEngine
from apr.engine.sglang.updates import InMemory, OnDisk, Weights
from apr.engine.sglang.weights import weights_name
from apr.threads.language import Vocabulary
from apr.train.model import save_model, token_logprobs
from apr.train.optimizers import Diverged
from apr.train.processes import Processes
from apr.train.rl.broadcast import Broadcast
from apr.train.rl.handover import HandOver, buckets_of, directory_of_weights, pickled
from apr.train.shards import whole_weights


async def publish(
    engine: SglangEngine,
    model: PreTrainedModel,
    tokenizer: Vocabulary,
    probe: tuple[int, ...],
    processes: Processes,
    by: HandOver,
) -> int:
    """Have all servers serve the model's weights as they are now; the engine's version of them. Every process has to
    call it. EngineError, in every process, if one server does not take them or they cannot be written, where this is an
    OSError; Diverged if the model computes what is not finite."""
    ids = torch.tensor([probe], device=processes.device)
    with torch.no_grad():
        expected_T = token_logprobs(model(input_ids=ids, use_cache=False).logits, ids)[0]
    if not expected_T.isfinite().all():
        raise Diverged("the weights make log-probabilities that are not finite", updated=True)
    used = processes.gather([engine.servers])
    of_others = set(chain.from_iterable(used[: processes.rank]))
    own = [server for server in engine.servers if server not in of_others]
    weights = whole_weights(model, here=bool(own))
    name, version = "", 0
    failure: EngineError | OSError | None = None
    with contextlib.ExitStack() as held:
        try:
            if own:
                on_their_way: Weights
                if by == "directory":
                    size = sum(value.nbytes for value in weights.values())
                    directory = held.enter_context(directory_of_weights(size))
                    await asyncio.to_thread(save_model, model, tokenizer, directory, weights=weights)
                    on_their_way = OnDisk(directory, await asyncio.to_thread(weights_name, directory))
                else:
                    buckets, digest = await asyncio.to_thread(buckets_of, weights)
                    if by == "tensors":
                        on_their_way = InMemory(pickled(buckets), digest)
                    else:
                        on_their_way = Broadcast(buckets, digest, processes.device)
                name = on_their_way.name
                version = await engine.update_weights(on_their_way, Probe(probe, tuple(expected_T.tolist())), own)
        except (EngineError, OSError) as error:
            failure = error
    for told in processes.gather([None if failure is None else str(failure)]):
        if told is not None:
            raise failure or EngineError(told)
    names = processes.gather([name])
    return version if own else engine.note_weights(next(filter(None, names)))
