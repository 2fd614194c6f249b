"""Muon against the one that comes with torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from apr.train.muon import Muon, orthogonal


def test_it_takes_the_steps_of_torch_s_own() -> None:
    torch.manual_seed(0)
    shapes = [(48, 48), (24, 48), (48, 48), (96, 32), (32, 96)]
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    idle = nn.Parameter(torch.ones(4, 4))
    one, other = Muon([*ours, idle], lr=0.05, weight_decay=0.1), torch.optim.Muon(theirs, lr=0.05, weight_decay=0.1)
    for _ in range(3):
        for parameter, twin in zip(ours, theirs, strict=True):
            parameter.grad = torch.randn(parameter.shape)
            twin.grad = parameter.grad.clone()
        one.step()
        other.step()
    # Torch's iteration is in bfloat16.
    for parameter, twin in zip(ours, theirs, strict=True):
        assert (parameter - twin).detach().norm() < 1e-2 * twin.detach().norm()
    assert torch.equal(idle, torch.ones(4, 4))


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 40, 8), (2, 8, 40)])
def test_singular_values_come_near_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    values: Tensor = torch.linalg.svdvals(orthogonal(torch.randn(shape) * 100))
    assert float(values.min()) > 0.3
    assert float(values.max()) < 1.4


def test_it_is_for_matrices() -> None:
    with pytest.raises(ValueError, match="for matrices"):
        Muon([nn.Parameter(torch.ones(3))], lr=0.1, weight_decay=0.0)
