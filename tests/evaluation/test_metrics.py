"""Metrics are arithmetic over sums."""

import json
import math

import pytest

from heliostat.evaluation.metrics import table_of
from heliostat.evaluation.report import write_report
from heliostat.models.perplexity import Score

SCORES = {
    "base": Score(loss_sum=100.0, num_labels=50, num_tokens=90, num_documents=3, seconds=1.5),
    "tuned": Score(loss_sum=50.0, num_labels=50, num_tokens=90, num_documents=3, seconds=1.0),
}


def test_perplexity_weighs_every_token_the_same():
    table = table_of(SCORES)
    assert table["loss"] == {"base": 2.0, "tuned": 1.0}
    assert table["perplexity"]["base"] == pytest.approx(math.exp(2))


def test_report_holds_the_facts_for_programs_and_for_people(tmp_path):
    facts = {**table_of(SCORES), "num_labels": 50, "num_documents": 3, "tokens": 90}
    write_report(tmp_path, "evaluation", facts, SCORES)
    assert json.loads((tmp_path / "report.json").read_text())["perplexity"]["tuned"] == pytest.approx(math.e)
    assert "| tuned | 2.718 | 1.0000 | 1.0 |" in (tmp_path / "report.md").read_text()
