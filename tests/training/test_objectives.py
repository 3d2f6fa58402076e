"""What each objective computes: against the formula, against each answer alone, against its own reference."""

import json
import shutil

import pytest
from objective_data import inputs, write_packed, write_pairs
from plain_loop import held_out, learn
from small_artifacts import write_dataset

from heliostat.errors import ConfigError, DataError, ModelError
from heliostat.models.adapters import merge_adapter
from heliostat.models.loading import load_model
from heliostat.models.scoring import label_losses, labelled_logits, pair_log_probabilities, to_tensors
from heliostat.preference_pairs import TokenizedPairs
from heliostat.tokenized import IGNORED, TokenizedDataset, collate, collate_documents
from heliostat.training.config import ValidationConfig
from heliostat.training.objectives.selection import prepare
from heliostat.training.validation import held_out_metrics, load_trained

LORA = {"kind": "lora", "r": 8, "target_modules": ["q_proj", "v_proj", "up_proj", "down_proj"]}


@pytest.fixture(scope="module")
def pair_folder(tiny_model_folder, tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"), tiny_model_folder)


@pytest.fixture(scope="module")
def packed_folder(tiny_model_folder, tmp_path_factory):
    return write_packed(tmp_path_factory.mktemp("packed"), tiny_model_folder)


@pytest.fixture(scope="module")
def sharp_model(tiny_model_folder):
    """The tiny model with attention made sharp, so that reading another document would show."""
    import torch

    model = load_model(tiny_model_folder)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.mul_(25)
    return model


# Packed and alone.


def test_documents_have_the_same_loss_packed_and_in_rows_of_their_own(sharp_model, packed_folder):
    import torch

    dataset = TokenizedDataset(packed_folder, "test")
    for at in range(len(dataset)):
        packed = to_tensors(collate([dataset[at]], 2))
        alone = to_tensors(collate_documents([dataset[at]], 2))
        with torch.no_grad():
            together = label_losses(*labelled_logits(sharp_model, packed))[0]
            apart = label_losses(*labelled_logits(sharp_model, alone))
        starts = torch.tensor([0, *dataset[at].document_lengths]).cumsum(0)
        learned = (packed["labels"][0] != IGNORED).nonzero().squeeze(1)
        for number, losses in enumerate(apart):
            here = (learned >= starts[number]) & (learned < starts[number + 1])
            assert float(together[here].sum()) == pytest.approx(float(losses.sum()), rel=1e-4)


def test_an_answers_log_probability_is_the_same_in_its_pair_and_alone(sharp_model, pair_folder):
    import torch

    pairs = TokenizedPairs(pair_folder, "test")
    chosen = [pairs[at] for at in (0, 1, 2)]  # of different lengths, so that two rows are padded
    batch = to_tensors(collate([pair.both for pair in chosen], 2))
    with torch.no_grad():
        found, num_labels = pair_log_probabilities(sharp_model, batch)
        for row, pair in enumerate(chosen):
            for column, half in enumerate((pair.chosen, pair.rejected)):
                alone = to_tensors(collate([half], 2))
                logits = sharp_model(alone["input_ids"]).logits[0].log_softmax(dim=-1)
                learned = (alone["labels"][0] != IGNORED).nonzero().squeeze(1)
                expected = logits[learned - 1, alone["labels"][0][learned]].sum()
                assert float(found[row, column]) == pytest.approx(float(expected), rel=1e-4)
                assert int(num_labels[row, column]) == half.num_labels


# Fine-tuning and language modelling.


def test_language_modelling_learns_all_but_first_tokens_whatever_the_mask(tiny_model_folder, packed_folder):
    prepared = prepare(inputs(tiny_model_folder, packed_folder, {"kind": "pretraining"}))
    objective = prepared.objective
    dataset = TokenizedDataset(packed_folder, "train")
    row, labels = dataset[3], objective.sequences([3])[0].labels()
    borders = [sum(row.document_lengths[:n]) for n in range(len(row.document_lengths))]
    assert [at for at, label in enumerate(labels) if label == IGNORED] == borders
    assert objective.weight([3]) == len(row.input_ids) - len(borders) > dataset.num_labels[3]


def test_fine_tuning_on_pairs_learns_their_chosen_answers(tiny_model_folder, pair_folder):
    objective = prepare(inputs(tiny_model_folder, pair_folder, {"kind": "sft"})).objective
    pair = TokenizedPairs(pair_folder, "train")[5]
    [learned] = objective.sequences([5])
    assert learned.input_ids.tolist() == pair.chosen.input_ids.tolist()
    assert objective.weight([5]) == pair.chosen.num_labels
    assert objective.num_tokens([5]) == len(pair.chosen.input_ids)


# DPO.


@pytest.mark.parametrize(
    "settings",
    [
        {"label_smoothing": 0.1},
        {"length_normalised": True, "beta": 2.0},
        {"reference_free": True, "length_normalised": True, "beta": 2.0, "gamma": 0.5},
    ],
    ids=["smoothed", "length normalised", "SimPO"],
)
def test_a_pairs_loss_is_the_papers_formula(tiny_model_folder, pair_folder, settings):
    import torch

    trained = learn(inputs(tiny_model_folder, pair_folder, {"kind": "dpo", **settings}), steps=3)
    config = inputs(tiny_model_folder, pair_folder, {"kind": "dpo", **settings}).config.objective
    pairs = TokenizedPairs(pair_folder, "train")
    batch = to_tensors(collate([pairs[0].both, pairs[1].both], 2))
    with torch.no_grad():
        loss = trained.objective.loss(trained.model, [0, 1], "cpu")
        ours, lengths = pair_log_probabilities(trained.model, batch)
        base, _ = pair_log_probabilities(load_model(tiny_model_folder), batch)
    ratio = ours if config.reference_free else ours - base
    rewards = config.beta * (ratio / lengths if config.length_normalised else ratio)
    margin = rewards[:, 0] - rewards[:, 1]
    wins, smoothing = torch.sigmoid(margin - config.gamma), config.label_smoothing
    expected = -(1 - smoothing) * wins.log() - smoothing * (1 - wins).log()
    assert float(loss.summed) == pytest.approx(float(expected.sum()), rel=1e-4)
    assert float(loss.metrics["margin"]) == pytest.approx(float(margin.sum()), rel=1e-4, abs=1e-6)
    assert float(loss.metrics["accuracy"]) == float((margin > 0).sum())


def test_with_lora_the_reference_is_the_model_without_its_adapter(tiny_model_folder, pair_folder):
    """Added tokens are trained beside the matrices: they must be as they were in the reference, too."""
    import torch

    adapter = LORA | {"dropout": 0.3}
    made = inputs(tiny_model_folder, pair_folder, {"kind": "dpo"}, adapter, added_token_ids=(5, 6))
    trained = learn(made, steps=3)
    with torch.no_grad():
        loss = trained.objective.loss(trained.model, [0, 1, 2], "cpu")
        own = trained.objective
        own._reference = load_model(tiny_model_folder).eval()
        copied = own.loss(trained.model, [0, 1, 2], "cpu")
    assert float(loss.summed) == pytest.approx(float(copied.summed), rel=1e-6)
    assert float(loss.metrics["margin"]) != 0.0


def test_all_parameters_are_validated_against_the_model_they_started_from(
    tiny_model_folder, pair_folder, tmp_path
):
    made = inputs(tiny_model_folder, pair_folder, {"kind": "dpo"})
    trained = learn(made, steps=8)
    shutil.copytree(tiny_model_folder, tmp_path, dirs_exist_ok=True)
    trained.model.save_pretrained(tmp_path)
    held = held_out_metrics(load_trained(made, tmp_path), ValidationConfig(every_steps=1, split="test"), 4)
    assert held["validation_margin"] != 0.0
    itself = held_out_metrics(
        load_trained(made, tiny_model_folder), ValidationConfig(every_steps=1, split="test"), 4
    )
    assert itself["validation_margin"] == pytest.approx(0.0, abs=1e-6)


def test_padding_of_pairs_is_told(tiny_model_folder, pair_folder):
    objective = prepare(inputs(tiny_model_folder, pair_folder, {"kind": "dpo"}, LORA)).objective
    rows = [pair.both for pair in objective.pairs([0, 1, 2])]
    for apart in (False, True):
        batch = objective.batch(rows, apart, "cpu")
        assert objective.padding.shape == batch["input_ids"].shape
        assert int((~objective.padding).sum()) == objective.num_tokens([0, 1, 2])


def test_looking_at_the_reference_leaves_the_model_as_it_was(tiny_model_folder, pair_folder):
    made = inputs(tiny_model_folder, pair_folder, {"kind": "dpo"}, LORA)
    prepared = prepare(made)
    prepared.model.train()
    loss = prepared.objective.loss(prepared.model, [0], "cpu")
    assert prepared.model.training
    loss.summed.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in prepared.model.parameters())


def test_dpo_wants_pairs(tiny_model_folder, packed_folder):
    for kind in ("dpo", "reward"):
        with pytest.raises(DataError, match="holds no preference pairs") as refused:
            prepare(inputs(tiny_model_folder, packed_folder, {"kind": kind}))
        assert len(str(refused.value).splitlines()) == 1


# Reward models.


def scores_of(model, tokenizer) -> list[float]:
    """As anybody would ask a classifier of transformers."""
    import torch

    texts = ["<|im_start|>user\nHow?<|im_end|>\n", "<|im_start|>user\nWhy is it so?<|im_end|>\n"]
    batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
    with torch.no_grad():
        return (
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0].tolist()
        )


def test_a_reward_models_folder_loads_as_a_classifier_with_one_label(
    tiny_model_folder, tiny_tokenizer, pair_folder, tmp_path
):
    from transformers import AutoModelForSequenceClassification

    trained = learn(inputs(tiny_model_folder, pair_folder, {"kind": "reward"}), steps=2)
    trained.model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert loaded.config.num_labels == 1
    assert scores_of(loaded, tiny_tokenizer) == pytest.approx(scores_of(trained.model, tiny_tokenizer))
    shutil.copy(tiny_model_folder / "tokenizer.json", tmp_path)
    with pytest.raises(ModelError, match="is a reward model, which scores text and writes none"):
        load_model(tmp_path)


def test_a_reward_adapter_brings_its_scoring_layer_and_merges(
    tiny_model_folder, tiny_tokenizer, pair_folder, tmp_path
):
    from transformers import AutoModelForSequenceClassification

    trained = learn(inputs(tiny_model_folder, pair_folder, {"kind": "reward"}, LORA), steps=2)
    trained.model.save_pretrained(tmp_path / "adapter")
    merge_adapter(tiny_model_folder, tmp_path / "adapter", tmp_path / "merged")
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    expected = scores_of(trained.model, tiny_tokenizer)
    assert scores_of(merged, tiny_tokenizer) == pytest.approx(expected, abs=1e-5)


# Distillation.


@pytest.fixture(scope="module")
def teacher_folder(tiny_model_folder, packed_folder, tmp_path_factory):
    """The tiny model after it has read the answers a few times."""
    folder = tmp_path_factory.mktemp("teacher")
    learn(inputs(tiny_model_folder, packed_folder, {"kind": "sft"}), steps=30).model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny_model_folder / name, folder)
    return folder


@pytest.mark.parametrize("divergence", ["forward", "reverse"])
def test_the_divergence_is_torchs_own_over_labels_only(
    tiny_model_folder, packed_folder, teacher_folder, divergence
):
    import torch

    objective = {"kind": "distillation", "teacher": "x", "divergence": divergence, "temperature": 2.0}
    made = inputs(
        tiny_model_folder, packed_folder, objective | {"label_weight": 0.25}, teacher_folder=teacher_folder
    )
    prepared = prepare(made)
    batch = to_tensors(collate([TokenizedDataset(packed_folder, "train")[at] for at in (0, 1)], 2))
    with torch.no_grad():
        loss = prepared.objective.loss(prepared.model.eval(), [0, 1], "cpu")
        labels = batch["labels"][:, 1:]
        student, teacher = (
            (
                load_model(folder)(
                    batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
                ).logits[:, :-1][labels != IGNORED]
            )
            for folder in (tiny_model_folder, teacher_folder)
        )
    label_loss = torch.nn.functional.cross_entropy(student, labels[labels != IGNORED], reduction="sum")
    of_student, of_teacher = ((logits / 2).log_softmax(dim=-1) for logits in (student, teacher))
    ends = (of_student, of_teacher) if divergence == "forward" else (of_teacher, of_student)
    expected = torch.nn.functional.kl_div(*ends, log_target=True, reduction="sum")
    assert float(loss.metrics["kl"]) == pytest.approx(float(expected), rel=1e-4)
    assert float(loss.metrics["label_loss"]) == pytest.approx(float(label_loss), rel=1e-4)
    assert float(loss.summed) == pytest.approx(
        0.25 * float(label_loss) + 0.75 * 4 * float(expected), rel=1e-4
    )


def test_a_teacher_with_another_vocabulary_is_refused(tiny_model_folder, packed_folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_model_folder, other)
    rules = json.loads((other / "tokenizer.json").read_text())
    vocabulary = rules["model"]["vocab"]
    first, second = sorted(vocabulary)[10:12]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (other / "tokenizer.json").write_text(json.dumps(rules))
    made = inputs(
        tiny_model_folder,
        packed_folder,
        {"kind": "distillation", "teacher": str(other)},
        teacher_folder=other,
    )
    with pytest.raises(ConfigError, match=r"has another vocabulary than .* choose a teacher") as refused:
        prepare(made)
    assert len(str(refused.value).splitlines()) == 1


# Each objective learns what it is for: its own figure on rows it has not seen.


@pytest.mark.parametrize(
    ("objective", "adapter", "figure", "margin"),
    [
        ({"kind": "dpo"}, None, "accuracy", 0.5),
        ({"kind": "dpo"}, LORA, "accuracy", 0.5),
        (
            {"kind": "dpo", "reference_free": True, "length_normalised": True, "beta": 2.0},
            None,
            "margin",
            0.5,
        ),
        ({"kind": "reward"}, None, "margin", 0.5),
        ({"kind": "sft"}, None, "loss", -1.0),
        ({"kind": "pretraining"}, None, "loss", -1.0),
    ],
    ids=["dpo", "dpo with lora", "SimPO", "reward", "sft", "pretraining"],
)
def test_an_objective_improves_its_figure_on_unseen_rows(
    tiny_model_folder, pair_folder, objective, adapter, figure, margin
):
    import torch

    made = inputs(tiny_model_folder, pair_folder, objective, adapter)
    torch.manual_seed(0)
    before = held_out(prepare(made))[figure]
    after = held_out(learn(made, steps=30, learning_rate=5e-3))[figure]
    assert (after - before) * (1 if margin > 0 else -1) > abs(margin), (before, after)


@pytest.mark.parametrize("divergence", ["forward", "reverse"])
def test_a_student_comes_closer_to_its_teacher_on_unseen_rows(
    tiny_model_folder, packed_folder, teacher_folder, divergence
):
    objective = {"kind": "distillation", "teacher": "x", "divergence": divergence, "label_weight": 0.0}
    made = inputs(tiny_model_folder, packed_folder, objective, teacher_folder=teacher_folder)
    before = held_out(prepare(made))["kl"]
    after = held_out(learn(made, steps=20))["kl"]
    assert after < 0.5 * before, (before, after)


def test_a_split_that_is_not_there_is_refused(tiny_model_folder, pair_folder, tmp_path):
    objective = prepare(inputs(tiny_model_folder, pair_folder, {"kind": "dpo"}, LORA)).objective
    with pytest.raises(DataError, match="the 'validation' split is empty"):
        objective.for_split("validation")
    pair = TokenizedPairs(pair_folder, "test").row(0)
    folder = write_dataset(tmp_path, tiny_model_folder, {"test": [pair]}, pairs=True)
    with pytest.raises(DataError, match="the 'train' split is empty"):
        prepare(inputs(tiny_model_folder, folder, {"kind": "reward"}))
