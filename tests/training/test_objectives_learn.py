"""Each objective, through the data room and a whole training run, improves its own figure on unseen rows.

The data is what the standard library says of its functions; a rejected answer has its words mixed up. The
margins are stated beside each test. Minutes, most of them for starting workers.
"""

import pytest
from docstrings import preference_rows
from objective_data import inputs
from plain_loop import held_out, learn
from small_artifacts import publish_model
from tests.data.in_process import prepare, write_jsonl

from heliostat.data.config import DataConfig
from heliostat.models.adapters import copy_tokenizer
from heliostat.models.loading import load_model
from heliostat.models.reward_model import load_reward_model
from heliostat.preference_pairs import TokenizedPairs
from heliostat.storage import artifact_folder
from heliostat.tokenized import TokenizedDataset
from heliostat.training.config import DistillationObjective, DpoObjective, RewardObjective, TrainConfig
from heliostat.training.objectives.distillation import Distillation
from heliostat.training.objectives.dpo import Dpo
from heliostat.training.objectives.reward import Reward
from heliostat.training.objectives.selection import Prepared, padding_id_of
from heliostat.training.run import train_model
from heliostat.workspace import Workspace

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]
LORA = {"kind": "lora", "r": 8, "target_modules": ["q_proj", "v_proj", "up_proj", "down_proj"]}


@pytest.fixture(scope="module")
def base(tiny_model_folder, tmp_path_factory):
    return publish_model(Workspace.resolve(str(tmp_path_factory.mktemp("base"))), tiny_model_folder)


@pytest.fixture(scope="module")
def pairs(base, tmp_path_factory):
    """600 preference pairs, tokenized by the data room; about one in five is unseen."""
    folder = tmp_path_factory.mktemp("pairs")
    source = {"kind": "jsonl", "path": str(write_jsonl(folder / "docs.jsonl", preference_rows(600)))}
    split = {"train": 0.8, "validation": 0.0, "test": 0.2}
    made = {"sources": [source], "split": split, "tokenize": {"max_sequence_length": 256}}
    return prepare(DataConfig.model_validate(made), base, folder)[1]


def config(objective: dict, adapter: dict, **values) -> TrainConfig:
    settings = {"max_steps": 80, "micro_batch_size": 8, "learning_rate": 3e-3} | values
    return TrainConfig.model_validate({"objective": objective, "adapter": adapter, **settings})


@pytest.mark.parametrize("adapter", [{"kind": "full"}, LORA], ids=["full", "lora"])
def test_dpo_tells_four_in_five_unseen_pairs_apart(ray_cluster, base, pairs, workspace, adapter):
    """Chance is 0.5; the trained model's implicit reward is the higher one in 0.8 of them or more."""
    trained = train_model(config({"kind": "dpo"}, adapter), base, pairs, workspace)
    figures = dpo_figures(artifact_folder(base), artifact_folder(trained), artifact_folder(pairs))
    assert figures["accuracy"] > 0.8, figures
    assert figures["margin"] > 0.2, figures


def test_a_reward_model_scores_the_right_answer_higher_in_unseen_pairs(ray_cluster, base, pairs, workspace):
    """The untrained head guesses; after training three in four are right, by a score of 1 on the average."""
    folder = artifact_folder(pairs)
    trained = train_model(config({"kind": "reward"}, {"kind": "full"}), base, pairs, workspace)
    before = reward_figures(artifact_folder(base), folder)
    after = reward_figures(artifact_folder(trained), folder)
    assert after["accuracy"] > max(0.75, before["accuracy"] + 0.15), (before, after)
    assert after["margin"] > before["margin"] + 1, (before, after)


def test_a_student_halves_its_divergence_from_the_teacher_on_unseen_rows(
    ray_cluster, base, pairs, workspace, tmp_path
):
    """The teacher has read the answers; the student begins as the base model and learns from it alone."""
    folder, teacher = artifact_folder(pairs), tmp_path / "teacher"
    taught = learn(inputs(artifact_folder(base), folder, {"kind": "sft"}), steps=60)
    taught.model.save_pretrained(teacher)
    copy_tokenizer(artifact_folder(base), teacher)
    objective = {"kind": "distillation", "teacher": str(teacher), "label_weight": 0.0}
    trained = train_model(config(objective, {"kind": "full"}, max_steps=40), base, pairs, workspace)
    before = distillation_figures(artifact_folder(base), teacher, folder)
    after = distillation_figures(artifact_folder(trained), teacher, folder)
    assert after["kl"] < 0.5 * before["kl"], (before, after)
    assert after["label_loss"] < before["label_loss"] - 0.5, (before, after)


# The figures of a folder on the unseen rows, whatever trained it.


def dpo_figures(base_folder, folder, dataset_folder) -> dict[str, float]:
    dataset = TokenizedPairs(dataset_folder, "test")
    reference = load_model(base_folder).eval()
    objective = Dpo(DpoObjective(), dataset, padding_id_of(base_folder), reference)
    return held_out(Prepared(load_model(folder), objective))


def reward_figures(folder, dataset_folder) -> dict[str, float]:
    import torch

    torch.manual_seed(0)  # the head of a language model's folder begins at random
    padding_id = padding_id_of(folder)
    objective = Reward(RewardObjective(), TokenizedPairs(dataset_folder, "test"), padding_id)
    return held_out(Prepared(load_reward_model(folder, padding_id=padding_id), objective))


def distillation_figures(folder, teacher_folder, dataset_folder) -> dict[str, float]:
    made = DistillationObjective(teacher=str(teacher_folder))
    teacher = load_model(teacher_folder).eval()
    dataset = TokenizedDataset(dataset_folder, "test")
    return held_out(Prepared(load_model(folder), Distillation(made, dataset, padding_id_of(folder), teacher)))
