"""A training benchmark in progress: its model and rows, and how each tool is run once over them."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.bench.corpus_contents import Say
from tests.bench.heliostat_runs import make_workspace
from tests.bench.peers import LLAMA_FACTORY, Peer
from tests.bench.session import Benchmark, Run
from tests.bench.training_bars import MATERIALS
from tests.bench.training_inputs import (
    SEED,
    Material,
    base_model,
    long_texts,
    passages,
    publish_material,
    short_instructions,
    tokenizer_of,
    write_peer_files,
)
from tests.bench.training_llama_factory import Setting, command, same_ids, train_config
from tests.bench.training_steps import Steps, follow, read_ours, read_trainer_log, read_trainer_state

from heliostat.ray_session import ENVIRONMENT
from heliostat.storage import artifact_folder
from heliostat.tracking import read_metrics
from heliostat.training.config import FullAdapter, LoraAdapter, TrainConfig
from heliostat.workspace import Workspace

ADAPTERS = {"full": FullAdapter(), "LoRA": LoraAdapter(r=16, alpha=32, target_modules=("q_proj", "v_proj"))}
LEARNING_RATE = 1e-4
WORKERS = 2
WARM_UP_STEPS = 2
CHECKPOINT_EVERY = 6
_NEVER = 1_000_000


@dataclass(frozen=True)
class Options:
    """How much is run. Each step reads `WORKERS` rows."""

    steps: int = 10
    length: int = 512
    conversations: int = 8
    zero_stage: int = 0
    materials: tuple[str, ...] = tuple(MATERIALS)


class TrainingSession(Benchmark):
    """What the parts of the training benchmark share."""

    def __init__(self, options: Options, repeats: int, peers: Sequence[Peer], say: Say) -> None:
        super().__init__("training-runs", repeats, peers, say)
        self.options = options
        self.model = base_model()
        self._tokenizer = tokenizer_of(self.model)
        self._inputs = Workspace.resolve(str(self.folder / "inputs"))

    @cached_property
    def long(self) -> Material:
        """Rows of one text each, as long as they may be."""
        rows = long_texts(self._tokenizer, self.options.steps * WORKERS, self.options.length)
        return self._publish("long", rows)

    @cached_property
    def passages(self) -> Material:
        """Rows of one long question each, and its answer."""
        rows = passages(self._tokenizer, self.options.steps * WORKERS, self.options.length)
        return self._publish("passages", rows)

    @cached_property
    def short(self) -> Material:
        """Rows of several questions and answers each."""
        count, per_row = self.options.steps * WORKERS, self.options.conversations
        return self._publish("short", short_instructions(self._tokenizer, count, per_row))

    @cached_property
    def brief(self) -> Material:
        """Rows of a few tokens, for steps so short that what comes between them can be told from them."""
        return self._publish("brief", long_texts(self._tokenizer, CHECKPOINT_EVERY * 6 * WORKERS, 64))

    def config(self, material: Material, adapter: str, checkpoint_every: int = _NEVER) -> TrainConfig:
        """Heliostat's side: a constant learning rate, so that all tools take the same steps."""
        return TrainConfig(
            name="bench",
            adapter=ADAPTERS[adapter],
            layout={"zero": {"stage": self.options.zero_stage}},
            num_workers=WORKERS,
            micro_batch_size=1,
            max_steps=len(material.tokens_per_step),
            learning_rate=LEARNING_RATE,
            warmup_ratio=0,
            min_learning_rate_ratio=1,
            seed=SEED,
            checkpoint={"every_steps": checkpoint_every},
        )

    def ours(self, material: Material, config: TrainConfig) -> Steps:
        """`train_model` on a Ray of its own, in a fresh workspace."""
        workspace = make_workspace(self.fresh("ours"))
        program = Path(__file__).parents[1] / "training" / "train_once.py"
        inputs = [self.model.uri, material.dataset.uri]
        started = [sys.executable, program, config.model_dump_json(), *inputs, workspace]
        return follow(started, lambda: read_ours(workspace), self.folder / "ours.log", ENVIRONMENT)

    def bare(self, material: Material, adapter: str) -> Steps:
        """The bare DeepSpeed loop with the same layout."""
        output = self.fresh("bare")
        output.mkdir()
        lora = ADAPTERS[adapter]
        settings = {
            "micro_batch_size": 1,
            "steps": len(material.tokens_per_step),
            "learning_rate": LEARNING_RATE,
            "zero_stage": self.options.zero_stage,
            "seed": SEED,
            "lora": _peft_words(lora) if isinstance(lora, LoraAdapter) else None,
        }
        script = Path(__file__).with_name("training_bare_deepspeed.py")
        folders = [artifact_folder(self.model), artifact_folder(material.dataset), output]
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        started = [*torchrun, "--nproc-per-node", str(WORKERS), script, json.dumps(settings), *folders]
        environment = {**ENVIRONMENT, "OMP_NUM_THREADS": "1"}
        return follow(started, lambda: read_metrics(output), self.folder / "bare.log", environment)

    def llama_factory(self, material: Material, adapter: str, setting: Setting) -> tuple[Steps, bool]:
        """LLaMA-Factory over the same documents, padded as it does; and whether its ids are ours."""
        data, output = self._peer_files(material), self.fresh("theirs")
        lora = ADAPTERS[adapter]
        config = train_config(
            material,
            artifact_folder(self.model),
            data,
            output,
            lora if isinstance(lora, LoraAdapter) else None,
        )
        config |= {"max_steps": len(material.tokens_per_step), "learning_rate": LEARNING_RATE}
        per_row = len(material.rows[0])
        started = command(
            self.pythons[LLAMA_FACTORY.name], config, setting, per_row, per_row * material.rows_per_step
        )
        steps = follow(
            started, lambda: read_trainer_log(output), self.folder / "theirs.log", setting.environment
        )
        losses = tuple(entry["loss"] for entry in read_trainer_state(output))
        return Steps(losses, steps.arrivals), same_ids(data, material.documents)

    def run_of(self, part: str, tool: str, steps: Steps, material: Material) -> Run:
        """The figures that every run has."""
        figures = {
            "first_loss": steps.losses[0],
            "last_loss": steps.losses[-1],
            "tokens_per_second": steps.rate(material.tokens_per_step, WARM_UP_STEPS),
            "step_seconds": [round(seconds, 3) for seconds in steps.seconds[1:]],
        }
        return Run(part, tool, None, figures)

    def _publish(self, name: str, rows: list[list[Any]]) -> Material:
        return publish_material(self._inputs, self.model, name, rows, WORKERS)

    def _peer_files(self, material: Material) -> Path:
        folder = self.folder / f"{material.name}-files"
        if not folder.is_dir():
            write_peer_files(folder, material.documents)
        return folder


def _peft_words(lora: LoraAdapter) -> dict[str, Any]:
    return {
        "r": lora.r,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": list(lora.target_modules),
    }
