"""Figures about a whole dataset, beside what they should be."""

import time

import pytest

from heliostat.data.quality_figures import (
    NodeFinder,
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


NODES = ["Gradient Descent", "BERT", "GPT-3", "GPT-4", "机器学习", "学习率", "café au lait", "C++", ""]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("We use gradient  descent\nto train bert.", {"Gradient Descent", "BERT"}),
        ("gradients descend; Albert", set()),
        ("GPT-4 is not the other one", {"GPT-4"}),
        ("机器学习的学习率很小", {"机器学习", "学习率"}),
        ("Café\nau lait in C++", {"café au lait", "C++"}),
        ("", set()),
        ("\ud800\x00", set()),
    ],
)
def test_nodes_are_found_as_whole_words(text, expected):
    assert NodeFinder(NODES).mentioned(text) == expected


def test_without_nodes_nothing_is_found():
    assert NodeFinder([]).mentioned("text") == set()


@pytest.mark.heavy
def test_ten_thousand_nodes_in_fifty_megabytes():
    finder = NodeFinder(
        [f"node{chr(97 + i % 26)} {chr(97 + i // 26 % 26)}{i // 676 * 'x'}" for i in range(10_000)]
    )
    text = "nodea b nodeb cx and other words " * 1_500_000
    started = time.process_time()
    assert "nodea b" in finder.mentioned(text)
    assert time.process_time() - started < 120
