"""The optimizer of pre-training. It needs about half as many examples as AdamW here, and 10 % more time."""

from __future__ import annotations

import torch

MOMENTUM = 0.95
DECAY = 0.01


class Muon:
    """Muon for the layers' matrices, and AdamW for embeddings, norms and biases.

    Jordan et al. 2024 (kellerjordan.github.io/posts/muon); the update is scaled to AdamW's size as in arXiv 2502.16982.
    `torch.optim.Muon` orthogonalizes in bfloat16, which takes 17 times as long on a CPU that has no such products.
    """

    def __init__(self, model: torch.nn.Module, lr: float) -> None:
        parameters = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        self.matrices = [p for n, p in parameters if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
        others = [p for n, p in parameters if not any(p is m for m in self.matrices)]
        self.momenta = [torch.zeros_like(p) for p in self.matrices]
        self.adamw = torch.optim.AdamW(others, lr=lr, weight_decay=DECAY, betas=(0.9, 0.98))
        self.lr = lr

    def set_rate(self, lr: float) -> None:
        self.lr = lr
        for group in self.adamw.param_groups:
            group["lr"] = lr

    @torch.no_grad()
    def step(self) -> None:
        self.adamw.step()
        for matrix, momentum in zip(self.matrices, self.momenta, strict=True):
            gradient = torch.zeros_like(matrix) if matrix.grad is None else matrix.grad
            momentum.mul_(MOMENTUM).add_(gradient)
            update = orthogonal(gradient.add(momentum, alpha=MOMENTUM))
            matrix.mul_(1 - DECAY * self.lr).add_(update, alpha=-self.lr * 0.2 * max(matrix.shape) ** 0.5)

    def zero_grad(self) -> None:
        self.adamw.zero_grad()
        for matrix in self.matrices:
            matrix.grad = None

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the state by name."""
        adamw_state = self.adamw.state_dict()["state"]
        return {f"adamw.{i}.{name}": tensor for i, each in adamw_state.items() for name, tensor in each.items()} | {
            f"momentum.{i}": momentum for i, momentum in enumerate(self.momenta)
        }

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Restore the state that `tensors` returned for the same model."""
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in tensors.items():
            kind, number, *name = key.split(".")
            if kind == "momentum":
                self.momenta[int(number)] = tensor
            else:
                state.setdefault(int(number), {})[name[0]] = tensor
        self.adamw.load_state_dict(self.adamw.state_dict() | {"state": state})


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Return approximately the nearest semi-orthogonal matrix, by five Newton-Schulz iterations."""
    x = matrix / (matrix.norm() + 1e-7)
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x if wide else x.T
