"""Losses: tensors in, (loss, metrics) out, no effects.

Shapes: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sft_loss(logits_BTV: Tensor, token_ids_BT: Tensor, weights_BT: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted cross entropy, in nats, SUMMED over the tokens that the model itself must write.

    `weights_BT` is zero on all other tokens; each token is predicted from the position before it. The metric "loss" is
    the same sum with every weight taken as one.
    """
    logits = logits_BTV[:, :-1].float().transpose(1, 2)
    weights = weights_BT[:, 1:]
    targets = token_ids_BT[:, 1:].masked_fill(weights == 0, -100)
    nats_BT = torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction="none")
    return (nats_BT * weights).sum(), {"loss": nats_BT.detach().sum()}
