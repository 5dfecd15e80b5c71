"""The running average of the weights that training moves: what is kept in the end."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Average:
    """An exponential average of a module's parameters that need a gradient; sharded as they are."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay, self.num_updates = module, decay, 0
        self._kept = {name: parameter.detach().clone() for name, parameter in self._learning()}

    def _learning(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, parameter) for name, parameter in self.module.named_parameters() if parameter.requires_grad)

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the module's weights; early on faster, so that the first weights are soon forgotten."""
        self.num_updates += 1
        decay = min(self.decay, self.num_updates / (self.num_updates + 9))
        for name, parameter in self._learning():
            self._kept[name].lerp_(parameter.detach(), 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by the names of the parameters."""
        return dict(self._kept)

    @torch.no_grad()
    def load_state_dict(self, kept: dict[str, Tensor], num_updates: int) -> None:
        """Take over what `state_dict` gave, after so many updates."""
        self.num_updates = num_updates
        for name, value in kept.items():
            self._kept[name].copy_(value)
