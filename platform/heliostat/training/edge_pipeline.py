"""Pipeline parallel: a Llama-like model as a list of layers that DeepSpeed cuts into stages and runs 1F1B.

What goes from stage to stage is (hidden states, position ids, labels): the positions keep packed documents
apart in every stage, and with the labels the last one projects only what predicts a label.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import deepspeed
import torch
from deepspeed.pipe import PipelineModule, TiedLayerSpec
from deepspeed.runtime.pipe.topology import PipeModelDataParallelTopology
from torch.utils.checkpoint import checkpoint
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

from heliostat.tokenized import IGNORED
from heliostat.training.edge_engine import ModelEngine, Sums, parameter_groups
from heliostat.training.objectives.interface import Objective
from heliostat.training.schedule import Rates

Carried = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Embed(torch.nn.Module):
    """Token ids, (batch, length), to hidden states."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, carried: Carried) -> Carried:
        """The embeddings in place of the ids."""
        ids, positions, labels = carried
        return self.inner(ids), positions, labels


class Block(torch.nn.Module):
    """One decoder layer, with the mask that keeps documents apart."""

    def __init__(self, model: Any, number: int, again: bool) -> None:
        super().__init__()
        self.inner = model.model.layers[number]
        self._rotary = [
            model.model.rotary_emb
        ]  # in a list: it has no parameters, and is no part of the layer
        self._config = model.config
        window = getattr(
            self.inner.self_attn, "sliding_window", getattr(model.config, "sliding_window", None)
        )
        self._mask = create_causal_mask if window is None else create_sliding_window_causal_mask
        self._again = again

    def forward(self, carried: Carried) -> Carried:
        """The layer's output in place of its input."""
        hidden, positions, labels = carried
        mask = self._mask(
            config=self._config,
            inputs_embeds=hidden,
            attention_mask=None,
            past_key_values=None,
            position_ids=positions,
        )
        rotary = self._rotary[0].to(hidden.device)
        settings = {
            "attention_mask": mask,
            "position_ids": positions,
            "position_embeddings": rotary(hidden, position_ids=positions),
            "use_cache": False,
        }
        if self._again and self.training:
            hidden = checkpoint(self.inner, hidden, use_reentrant=False, **settings)
        else:
            hidden = self.inner(hidden, **settings)
        return hidden, positions, labels


class Norm(torch.nn.Module):
    """The norm behind the last layer, and the choice of what predicts a label."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, carried: Carried) -> tuple[torch.Tensor, torch.Tensor]:
        """(kept, hidden size) states and their labels."""
        hidden, _, labels = carried
        following = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
        kept = following != IGNORED
        return self.inner(hidden[kept]), following[kept]


class Head(torch.nn.Module):
    """The projection onto the vocabulary, and the loss summed over the labels."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, carried: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """The summed cross entropy: float32, no dimensions."""
        return project(self.inner, carried)


def project(inner: Any, carried: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """The head's work, with a weight of its own or with that of the embeddings."""
    hidden, labels = carried
    if isinstance(inner, torch.nn.Embedding):
        logits = torch.nn.functional.linear(hidden, inner.weight)
    else:
        logits = inner(hidden)
    return torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")


class PipelineEngine(ModelEngine):
    """One worker's stage of a model. What the stages hold between them is `model`, which is taken apart."""

    def _initialize(self, settings: dict[str, Any]) -> Any:
        layout, model = self.config.layout, self.model
        deepspeed.init_distributed("nccl" if self.config.use_gpu else "gloo")
        topology = PipeModelDataParallelTopology(
            num_pp=layout.pipeline_parallel, num_mp=layout.tensor_parallel, num_dp=self.num_replicas
        )
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._factor = 1.0
        if layout.tensor_parallel > 1:
            shard_layers(model, topology)
        self._pipe = PipelineModule(
            layers=stages_of(model, layout.activation_checkpointing),
            topology=topology,
            loss_fn=lambda summed, _: summed * self._factor,
            partition_method="parameters",
            dynamic_shape=True,
        )
        self._replica = topology.get_coord(self.rank).data
        engine, *_ = deepspeed.initialize(
            model=self._pipe, model_parameters=parameter_groups(self._pipe, self.config), config=settings
        )
        return engine

    @property
    def replica(self) -> int:
        """Which copy of the model this worker has a stage of."""
        return int(self._replica)

    def step(
        self, objective: Objective, micro_batches: Sequence[list[int]], weight: float, rates: Rates
    ) -> Sums:
        """As for one model; the micro batches are all under way at once."""
        self._set_rates(rates)
        self._micro_batches = micro_batches
        self._factor = self.num_replicas * len(micro_batches) / weight
        self.timer.begin("forward")  # and backward, which 1F1B runs in turns
        loss = self.engine.train_batch(iter([self._fed(objective, each) for each in micro_batches]))
        self.timer.begin("other")
        self._note_norm()
        return {"loss": float(loss)}

    def _fed(self, objective: Objective, positions: list[int]) -> tuple[Carried, torch.Tensor]:
        batch = objective.batch(positions or [0], "cpu")  # type: ignore[attr-defined]
        if not positions:
            batch["labels"] = torch.full_like(batch["labels"], IGNORED)
        carried = batch["input_ids"], batch["position_ids"], batch["labels"]
        return carried, torch.zeros(())

    def _checkpoint_activations(self) -> None:
        """Each `Block` does it for itself."""

    def _own_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        for parameter in self._pipe.parameters():
            yield self._names[id(parameter)], parameter

    def buffers(self) -> Iterator[tuple[str, torch.Tensor]]:
        """None: the layers this cuts have no more than parameters."""
        yield from ()

    @property
    def writes_trained(self) -> bool:
        """The first replica's first tensor rank of each stage writes that stage."""
        place = self._pipe._topo.get_coord(self.rank)
        return bool(place.data == 0 and place.model == 0)

    def _copies(self, parameter: torch.nn.Parameter) -> int:
        tied = self.config.layout.pipeline_parallel > 1 and id(parameter) in self._tied_ids()
        return super()._copies(parameter) * (2 if tied else 1)

    def _tied_ids(self) -> set[int]:
        return {id(p) for p in self._pipe.tied_modules.parameters()}


def stages_of(model: Any, again: bool) -> list[Any]:
    """The layers in their order; tied embeddings are one weight that the first and the last stage share."""
    inner = model.model
    blocks = [Block(model, number, again) for number in range(len(inner.layers))]
    if model.config.tie_word_embeddings:
        attributes = ["inner.weight"]
        first = TiedLayerSpec("embedding", Embed, inner.embed_tokens, tied_weight_attr=attributes)
        last = TiedLayerSpec(
            "embedding",
            Embed,
            inner.embed_tokens,
            forward_fn=lambda module, carried: project(module.inner, carried),
            tied_weight_attr=attributes,
        )
        return [first, *blocks, Norm(inner.norm), last]
    return [Embed(inner.embed_tokens), *blocks, Norm(inner.norm), Head(model.lm_head)]


def shard_layers(model: Any, topology: Any) -> None:
    """Cut the decoder layers' matrices over the tensor ranks of a pipeline, as AutoTP does without one."""
    from deepspeed.module_inject.layers import LinearAllreduce, LinearLayer, set_autotp_mode

    set_autotp_mode(training=True)
    mine = None
    for ranks in topology.get_axis_comm_lists("model"):
        group = torch.distributed.new_group(ranks)
        if torch.distributed.get_rank() in ranks:
            mine = group
    for layer in model.model.layers:
        for parent, columns, rows in (
            (layer.self_attn, ("q_proj", "k_proj", "v_proj"), ("o_proj",)),
            (layer.mlp, ("gate_proj", "up_proj"), ("down_proj",)),
        ):
            for name in columns:
                setattr(parent, name, LinearLayer(getattr(parent, name), mine, name=name))
            for name in rows:
                setattr(parent, name, LinearAllreduce(getattr(parent, name), mine, name=name))
