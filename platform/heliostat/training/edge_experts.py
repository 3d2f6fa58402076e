"""Expert parallel: AutoEP in place of a model's expert layers, and the way back to the model's own names."""

from collections.abc import Iterator

import torch
from deepspeed.module_inject.auto_ep_layer import AutoEPMoELayer

from heliostat.training.edge_engine import ModelEngine


class ExpertEngine(ModelEngine):
    """One worker's share of the experts, and a copy of everything else."""

    def whole_tensors(self, trained: bool) -> Iterator[tuple[str, torch.Tensor]]:
        """As for one model: the experts of all workers, in the order that they have in the model."""
        layers = {name: m for name, m in self.model.named_modules() if isinstance(m, AutoEPMoELayer)}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad != trained:
                continue
            prefix, _, matrix = name.rpartition(".experts.")
            if prefix not in layers:
                yield name.replace(".router.gate.", ".gate."), parameter.detach().to("cpu", copy=True)
            elif matrix == "w1":  # the gate; transformers keeps it with the projection up, w3
                both = [_of_all(layers[prefix], layers[prefix].experts.w1), None]
                both[1] = _of_all(layers[prefix], layers[prefix].experts.w3)
                yield f"{prefix}.experts.gate_up_proj", torch.cat(both, dim=1)
            elif matrix == "w2":
                yield f"{prefix}.experts.down_proj", _of_all(layers[prefix], parameter)

    def buffers(self) -> Iterator[tuple[str, torch.Tensor]]:
        """As for one model."""
        for name, buffer in super().buffers():
            yield name.replace(".router.", ".gate."), buffer


def _of_all(layer: AutoEPMoELayer, mine: torch.Tensor) -> torch.Tensor:
    """(experts of all workers, ...) from (own experts, ...), on the CPU."""
    parts = [torch.empty_like(mine) for _ in range(layer.ep_size)]
    torch.distributed.all_gather(parts, mine.detach().contiguous(), group=layer.ep_group)
    return torch.cat([part.cpu() for part in parts])
