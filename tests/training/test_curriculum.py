import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliostat.tokenized import INDEX_NAME, PackedSequence, TokenizedDataset, write_part
from heliostat.training.curriculum import Curriculum, difficulties
from heliostat.training.curriculum_config import CurriculumConfig


def packed(documents: list[list[int]]) -> PackedSequence:
    ids = np.concatenate([np.array(document, dtype=np.int64) for document in documents])
    names = tuple(f"doc-{number}" for number in range(len(documents)))
    return PackedSequence(ids, np.ones_like(ids), tuple(len(document) for document in documents), names)


def curriculum(difficulty, steps, batch, seed=0, **settings) -> Curriculum:
    return Curriculum(CurriculumConfig(**settings), np.asarray(difficulty, float), steps, batch, seed)


def read(course: Curriculum, steps: int) -> list[int]:
    return [position for step in range(steps) for position in course.positions(step)]


sizes = st.tuples(st.integers(1, 60), st.integers(1, 9), st.integers(0, 3))
shapes = st.tuples(st.floats(0.01, 1), st.floats(0.05, 1))


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 3), shapes)
def test_one_epoch_reads_every_sequence_exactly_once(steps, batch, seed, shape):
    difficulty = np.random.default_rng(seed).random(steps * batch)
    course = curriculum(difficulty, steps, batch, seed, start=shape[0], until=shape[1])
    assert sorted(read(course, steps)) == list(range(steps * batch))


@given(sizes, st.integers(1, 5), shapes)
def test_every_sequence_is_read_when_an_epoch_is_left_once_all_may_be(size, epochs, shape):
    num_sequences, batch, seed = size
    start, until = shape
    steps = math.ceil((epochs + 1) * num_sequences / batch)
    course = curriculum(range(num_sequences), steps, batch, seed, start=start, until=until)
    first_full = next((step for step in range(steps) if course.competence(step) == 1.0), steps)
    if (steps - first_full) * batch >= 2 * num_sequences:  # what is left of a pass, and one more
        assert set(read(course, steps)[first_full * batch :]) == set(range(num_sequences))


@given(sizes, shapes, st.integers(1, 60))
def test_no_step_reads_what_is_still_too_hard(size, shape, steps):
    num_sequences, batch, seed = size
    difficulty = np.random.default_rng(seed).permutation(num_sequences)
    course = curriculum(difficulty, steps, batch, seed, start=shape[0], until=shape[1])
    for step in range(steps):
        assert len(course.positions(step)) == batch
        assert max(difficulty[position] for position in course.positions(step)) < course.readable(step)


@given(sizes, st.integers(1, 40))
def test_no_sequence_is_read_twice_more_than_another_that_could_be_read_as_long(size, steps):
    num_sequences, batch, seed = size
    course = curriculum(np.zeros(num_sequences), steps, batch, seed, start=1)
    counts = np.bincount(read(course, steps), minlength=num_sequences)
    assert counts.max() - counts.min() <= 1


def test_a_resumed_run_reads_on_as_if_it_had_not_stopped():
    difficulty = np.random.default_rng(0).random(200)
    whole = [curriculum(difficulty, 50, 8).positions(step) for step in range(50)]
    resumed = curriculum(difficulty, 50, 8)
    assert [resumed.positions(step) for step in range(31, 50)] == whole[31:]
    assert read(curriculum(difficulty, 50, 8, seed=1), 50) != sum_of(whole)


def sum_of(batches: list[list[int]]) -> list[int]:
    return [position for batch in batches for position in batch]


def test_competence_grows_with_the_root_of_the_progress():
    course = curriculum(range(1000), 100, 4, start=0.1, until=0.5)
    assert course.competence(0) == pytest.approx(math.sqrt(0.02 * 0.99 + 0.01))
    assert course.competence(24) == pytest.approx(math.sqrt(0.5 * 0.99 + 0.01))
    assert course.competence(48) < 1.0 == course.competence(49) == course.competence(99)
    assert course.readable(0) == 173


def test_easy_sequences_come_first_on_average():
    course = curriculum(range(1000), 100, 10, until=1)
    order = np.array(read(course, 100))
    assert order[:200].mean() < 350 < 600 < order[-200:].mean()


def test_the_first_step_reads_the_easiest_sequence_alone_when_only_it_may_be():
    course = curriculum([3, 1, 2], 100, 4, start=0.01, until=1)
    assert course.positions(0) == [1, 1, 1, 1]


def test_a_sequence_of_short_documents_is_easy_and_one_of_rare_tokens_hard():
    common, rare = [[5, 5, 5, 6], [5, 6]], [[7, 8, 9, 5, 6, 5]]
    sequences = [packed(rare), packed(common), packed(common)]
    by_length = difficulties(CurriculumConfig(difficulty="length"), sequences)
    assert by_length.tolist() == [6, 3, 3]
    by_rarity = difficulties(CurriculumConfig(difficulty="rarity"), sequences)
    assert by_rarity[0] > by_rarity[1] == by_rarity[2] > 0
    counts = {5: 10, 6: 5, 7: 1, 8: 1, 9: 1}
    expected = -np.mean([math.log(counts[token] / 18) for token in rare[0]])
    assert by_rarity[0] == pytest.approx(expected)


def test_a_dataset_on_disk_is_read_by_position(tmp_path):
    sequences = [packed([[1] * length]) for length in (9, 2, 5)]
    part = write_part(tmp_path / "train" / "part-00000.parquet", sequences)
    (tmp_path / INDEX_NAME).write_text(json.dumps({"splits": {"train": [part]}}))
    dataset = TokenizedDataset(tmp_path, "train")
    found = difficulties(CurriculumConfig(), (dataset[position] for position in range(len(dataset))))
    assert found.tolist() == [9, 2, 5]
