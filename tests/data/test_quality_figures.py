"""Figures about a whole dataset, beside what they should be."""

import pytest

from heliostat.data.quality_figures import (
    cleanliness,
    consistency,
    coverage,
    topic_consistency,
)


@pytest.mark.parametrize(
    ("similarities", "share", "met"),
    [([0.9, 0.8, 0.79, 1.0, 0.8], 0.8, True), ([0.9, 0.1, 0.2], 1 / 3, False), ([], None, None)],
)
def test_topic_consistency_is_the_share_at_or_above_the_threshold(similarities, share, met):
    figure = topic_consistency(similarities)
    assert (figure.value, figure.met, figure.target) == (share, met, 0.8)


def test_another_threshold():
    assert topic_consistency([0.5, 0.6, 0.4], threshold=0.5).value == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("nodes", "mentioned", "share", "met"),
    [
        (["镜", "光", "热"], {"光", "热", "水"}, 2 / 3, False),
        ([str(i) for i in range(100)], [str(i) for i in range(5, 100)], 0.95, True),
        ([], {"a"}, None, None),
        (["a", "a"], ["a"], 1.0, True),
    ],
)
def test_coverage_is_the_share_of_nodes_mentioned(nodes, mentioned, share, met):
    figure = coverage(nodes, mentioned)
    assert (figure.value, figure.met) == (share, met)


@pytest.mark.parametrize(
    ("lengths", "deviation", "met"),
    [
        ([10, 10, 10], 0.0, True),
        ([8, 12], 0.2, False),
        ([85, 115], 0.15, True),
        ([], None, None),
        ([0, 0], None, None),
    ],
)
def test_consistency_is_the_relative_deviation_of_lengths(lengths, deviation, met):
    figure = consistency(lengths)
    assert (figure.value, figure.met) == (pytest.approx(deviation) if deviation is not None else None, met)


@pytest.mark.parametrize(
    ("noisy", "documents", "share", "met"),
    [(0, 10, 0.0, True), (3, 1000, 0.003, True), (31, 10_000, 0.0031, False), (0, 0, None, None)],
)
def test_cleanliness_is_the_share_of_noise(noisy, documents, share, met):
    figure = cleanliness(noisy, documents)
    assert (figure.value, figure.met) == (share, met)
