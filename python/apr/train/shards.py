"""Weights in shares: each process of a run keeps its part of every parameter, of its gradient and of what the optimiser
remembers of it (FSDP2), and has a block's whole weights only while it computes with them. In groups of processes each
group holds all (hybrid sharding).

A process alone has all there is, as plain tensors, and pays nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from apr.train.processes import Processes
from apr.train.recipes import Sharding


def shard(model: PreTrainedModel, processes: Processes, compute: torch.dtype, how: Sharding) -> None:
    """Bring a model to its device: to each of several processes its part of every parameter of the first one's, kept
    in float32. They compute in `compute`, and gradients are summed over them in float32. ValueError for processes that
    make no groups of one size."""
    if processes.count == 1:
        model.to(processes.device)
        return
    weights = [parameter.detach() for parameter in model.parameters()] if processes.rank == 0 else None
    mesh = _mesh(processes, how)
    precision = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32)
    offload = CPUOffloadPolicy(pin_memory=processes.device.type != "cpu") if how.offload else OffloadPolicy()
    for module in (*model.model.layers, model):
        fully_shard(module, mesh=mesh, mp_policy=precision, offload_policy=offload, reshard_after_forward=True)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Losses are divided by what the whole step holds, so gradients add up; gloo can take no mean either.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    _hand_out(model, weights, processes.device)


@torch.no_grad()
def _hand_out(model: PreTrainedModel, weights: Sequence[Tensor] | None, device: torch.device) -> None:
    """Give all processes their shares of the first one's weights, a parameter at a time, and its buffers."""
    for place, parameter in enumerate(model.parameters()):
        assert isinstance(parameter, DTensor)
        if weights is None:
            tensor = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
        else:
            tensor = weights[place].to(device)
        own(parameter).copy_(own(distribute_tensor(tensor, parameter.device_mesh, parameter.placements)))
    for buffer in model.buffers():
        dist.broadcast(buffer, 0)


def _mesh(processes: Processes, how: Sharding) -> DeviceMesh:
    """All processes in a row, or in one row a group: those of a machine have neighbouring ranks."""
    device, shares = processes.device.type, how.shares(processes.count)
    if how.replicas == 1:
        return init_device_mesh(device, (shares,))
    return init_device_mesh(device, (how.replicas, shares), mesh_dim_names=("replicas", "shares"))


def before_turn(model: PreTrainedModel, turn: int, turns: int) -> None:
    """What the pass `turn` of a step's `turns`, counted from 0, does with shares. Gradients add up whole until the last
    sums them over all processes, so weights, once gathered, stay whole till then too: nobody waits in between."""
    if isinstance(model, FSDPModule):
        last = turn + 1 == turns
        model.set_requires_gradient_sync(last)
        model.set_reshard_after_backward(last)
        # A step of one pass gives each block's weights up between its forward and its backward.
        model.set_reshard_after_forward(turns == 1)


def after_turns(model: PreTrainedModel) -> None:
    """Weights are kept whole no longer than for a forward pass again."""
    if isinstance(model, FSDPModule):
        model.set_reshard_after_forward(True)


def own(tensor: Tensor) -> Tensor:
    """This process's part."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All parts as one; every process has to ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shared_as(parameter: Tensor, value: Tensor) -> Tensor:
    """A whole tensor, which every process has, in the parts of a parameter of its shape."""
    if not isinstance(parameter, DTensor) or isinstance(value, DTensor):
        return value
    # No process has to tell another what it has itself; parts may be kept elsewhere than they are computed with.
    parts = distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return parts.to(parameter.device)


def weights_of(model: PreTrainedModel) -> dict[str, Tensor]:
    """This process's part of the parameters, by name, one that is used twice once; they share the model's memory."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def whole_weights(model: PreTrainedModel, *, here: bool = True) -> dict[str, Tensor]:
    """All weights, one that is used twice under both its names; every process has to ask for them, and only those get
    them that want them `here`. Gathered ones are on the CPU, so that no device has to hold them all."""
    twice = dict(model.named_parameters(remove_duplicate=False))
    held: dict[int, Tensor] = {}
    for parameter in model.parameters():
        tensor = whole(parameter.detach())
        if here:
            held[id(parameter)] = tensor.cpu() if isinstance(parameter, DTensor) else tensor
    return {name: held[id(parameter)] for name, parameter in twice.items() if here}


@torch.no_grad()
def set_weights(model: PreTrainedModel, weights: Mapping[str, Tensor]) -> None:
    """Give the parameters other values, whole ones or parts."""
    for name, parameter in model.named_parameters():
        parameter.copy_(shared_as(parameter, weights[name].to(parameter.device)))
