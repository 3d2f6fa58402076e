"""How evenly tokens spread over the experts of a model, and the bias that evens them out.

Knows the routers of transformers (DeepSeek-V3, Mixtral, Qwen-MoE and those written alike) and of DeepSpeed's
expert parallelism by their looks, and imports neither DeepSpeed nor Ray: who has several workers passes the
function that adds a tensor up over them.
"""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import torch

BIAS = "e_score_correction_bias"
CHOSEN = {"TokenChoiceTopKRouter": 1}
"""Where a router's result holds the chosen experts, if not at its end: in AutoEP's, counts come last."""


class ExpertLoad:
    """Counts, layer by layer, the tokens that each expert gets. Padding does not count: all of it goes to the
    same experts, and how much there is depends on how a batch is cut."""

    def __init__(
        self, model: Any, routers: dict[str, Any], padding: "Callable[[], Any]", counts: Callable[[], bool]
    ) -> None:
        """Made by `attach`."""
        import torch

        self._routers = list(routers.values())
        self._padding = padding
        self._counts_now = counts
        self._counting = False
        self._counted: torch.Tensor | None = None
        sizes = {router.num_experts for router in self._routers}
        assert len(sizes) == 1, "all layers of an architecture have the same number of experts"
        device = next(self._routers[0].parameters()).device
        self._counts = torch.zeros((len(self._routers), *sizes), dtype=torch.int64, device=device)
        self._summed: torch.Tensor | None = None
        self._hooks = [
            model.register_forward_pre_hook(self._forward_begins),
            # Also when the forward fails, or what comes after it would be counted.
            model.register_forward_hook(self._forward_ends, always_call=True),
        ]
        self._hooks += [
            router.register_forward_hook(self._counter(layer)) for layer, router in enumerate(self._routers)
        ]

    @classmethod
    def attach(
        cls,
        model: Any,
        padding: "Callable[[], Any]" = lambda: None,
        counts: Callable[[], bool] = lambda: True,
    ) -> Self | None:
        """Count in a model from now on; None for one without experts.

        `model` is the module whose forward a training step calls, or what DeepSpeed's engine wraps. It is
        attached before or after `deepspeed.initialize`. `padding` says where the batch that is read is only
        filled up: a bool tensor of (rows, length), or None; `counts` whether it counts at all. Only forwards
        in training mode do, and what
        activation checkpointing computes again in the backward pass does not: that calls layers, never the
        model.
        """
        routers = dict(_routers_of(model))
        return cls(model, routers, padding, counts) if routers else None

    def detach(self) -> None:
        """Stop counting."""
        for hook in self._hooks:
            hook.remove()

    def metrics(self, all_reduce: "Callable[[torch.Tensor], object] | None" = None) -> dict[str, float]:
        """Figures over the tokens of all workers since the last call; counting starts again from nothing.

        `all_reduce` adds an int64 tensor (num_layers, num_experts) up over the workers, in place; every
        worker has to call. The figures:

        expert_load_max_ratio   tokens of the fullest expert over the mean of its layer, of the worst layer
        expert_entropy          entropy of a layer's loads as a share of the even spread's, mean over layers
        dropped_tokens          0: no expert has a capacity, so each takes all tokens that are sent to it
        """
        summed = self._counts.clone()
        if all_reduce is not None:
            all_reduce(summed)
        self._counts.zero_()
        self._summed = summed
        loads = summed.double()
        shares = loads / loads.sum(dim=1, keepdim=True).clamp(min=1)
        entropy = -(shares * shares.clamp(min=1e-12).log()).sum(dim=1) / math.log(loads.shape[1])
        return {
            "expert_load_max_ratio": float(shares.max() * loads.shape[1]),
            "expert_entropy": float(entropy.mean()),
            "dropped_tokens": 0.0,
        }

    def balance(self, rate: float = 1e-3) -> bool:
        """Raise the biases of experts that got fewer tokens than the mean, and lower the others, by `rate`.

        Loss-free balancing (Wang et al., 2024, arXiv:2408.15664): the bias has a say in which experts a token
        takes, none in their weights, so no gradient works against the loss. It goes by the loads of all
        workers that the last `metrics` found, so every worker comes to the same biases. To be called between
        two steps.

        Returns:
            Whether anything was balanced: False for routers without a bias (Mixtral, Qwen-MoE), before the
            first `metrics`, and where no token was counted.
        """
        import torch

        if self._summed is None or not self._summed.any():
            return False
        loads = self._summed.double()
        steps = rate * (loads.mean(dim=1, keepdim=True) - loads).sign()
        balanced = False
        for router, step in zip(self._routers, steps, strict=True):
            bias = getattr(router, BIAS, None)
            if bias is None:
                continue
            with torch.no_grad():
                if bias.dtype != torch.float32:  # an engine in bf16 or fp16 casts buffers, too
                    bias.data = bias.data.float()
                bias.add_(step.to(bias.device, torch.float32))
            balanced = True
        return balanced

    def _forward_begins(self, model: Any, arguments: Any) -> None:
        self._counting = bool(model.training) and self._counts_now()
        padding = self._padding() if self._counting else None
        self._counted = None if padding is None else (~padding).flatten()

    def _forward_ends(self, model: Any, arguments: Any, result: Any) -> None:
        self._counting = False

    def _counter(self, layer: int) -> Callable[[Any, Any, Any], None]:
        """A hook on a router. Nothing waits for the device: counts are added up where the tokens are."""

        def count(router: Any, arguments: Any, result: Any) -> None:
            import torch

            if not self._counting:
                return
            chosen = result[CHOSEN.get(type(router).__name__, -1)].detach()
            if self._counted is not None:
                chosen = chosen.view(len(self._counted), -1)[self._counted]
            chosen = chosen.flatten()
            if self._counts.device != chosen.device:
                self._counts = self._counts.to(chosen.device)
            self._counts[layer].scatter_add_(0, chosen, torch.ones_like(chosen))

        return count


def _chosen_experts(result: "tuple[torch.Tensor, ...]") -> "torch.Tensor":
    """(tokens, experts per token), integers; DeepSpeed's router gives a histogram as well."""
    return next(each for each in result if each.dim() == 2 and not each.is_floating_point())


def _routers_of(model: Any) -> Iterator[tuple[str, Any]]:
    """The modules that choose experts, by name: transformers', or those AutoEP puts there."""
    for name, module in model.named_modules():
        if type(module).__name__.lower().endswith("topkrouter") and hasattr(module, "num_experts"):
            yield name, module
