"""Records: receipts that must balance, certificates that survive JSON, provenance without heavy imports."""

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from heliostat.records import Artifact, Count, FileEntry, Provenance, Receipt, Run, now, total

counts = st.builds(Count, documents=st.integers(0, 10**9), tokens=st.integers(0, 10**12))
breakdowns = st.dictionaries(st.text(min_size=1, max_size=8), counts, max_size=5)
truncations = st.builds(Count, documents=st.just(0), tokens=st.integers(0, 10**6))


def read_for(kept, dropped, truncated) -> Count:
    everything = total(kept) + total(dropped)
    return Count(documents=everything.documents, tokens=everything.tokens + truncated.tokens)


@given(kept=breakdowns, dropped=breakdowns, truncated=truncations)
def test_a_receipt_that_accounts_for_everything_is_accepted(kept, dropped, truncated):
    read = read_for(kept, dropped, truncated)
    receipt = Receipt(read=read, kept=kept, dropped=dropped, truncated=truncated)
    assert Receipt.model_validate_json(receipt.model_dump_json()) == receipt


@given(
    kept=breakdowns,
    dropped=breakdowns,
    truncated=truncations,
    documents=st.integers(-3, 3),
    tokens=st.integers(-3, 3),
)
def test_a_receipt_balances_exactly_when_its_counts_add_up(kept, dropped, truncated, documents, tokens):
    read = read_for(kept, dropped, truncated)
    claimed = {"documents": read.documents + documents, "tokens": read.tokens + tokens}
    balances = documents == 0 and tokens == 0
    try:
        Receipt.model_validate(
            {"read": claimed, "kept": kept, "dropped": dropped, "truncated": truncated.model_dump()}
        )
    except ValidationError:
        assert not balances
    else:
        assert balances


def test_an_unbalanced_receipt_says_by_how_much():
    with pytest.raises(ValidationError, match="3 documents read, 2 accounted for"):
        Receipt(read=Count(documents=3), kept={"train": Count(documents=2)}, dropped={})


@given(first=counts, second=counts)
def test_counts_add_in_both_units(first, second):
    both = first + second
    assert (both.documents, both.tokens) == (
        first.documents + second.documents,
        first.tokens + second.tokens,
    )


def test_counts_below_zero_are_refused():
    with pytest.raises(ValidationError):
        Count(documents=-1)


def test_records_refuse_unknown_keys():
    with pytest.raises(ValidationError, match="extra"):
        FileEntry(path="a", bytes=1, sha256="", mode=0o644)


def test_a_certificate_survives_json():
    artifact = Artifact(
        id="model-1",
        kind="model",
        uri="/x",
        key="k",
        content="c",
        bytes=3,
        files=(FileEntry(path="a", bytes=3, sha256="s"),),
        parents=("dataset-1",),
        config={"a": {"b": 1}},
        facts={"perplexity": 12.25, "of the pruned": float("inf")},
        created_at=now(),
        provenance=Provenance.collect(),
    )
    assert Artifact.model_validate_json(artifact.model_dump_json()) == artifact


@given(value=st.floats())
def test_a_figure_that_is_no_number_survives_json(value):
    run = Run(
        id="train-1",
        stage="train",
        status="finished",
        config={},
        fingerprint="",
        inputs=(),
        metrics={"loss": value},
        started_at=now(),
        provenance=Provenance.collect(),
    )
    read = Run.model_validate_json(run.model_dump_json()).metrics["loss"]
    assert read == value or (math.isnan(read) and math.isnan(value))


def test_provenance_names_code_versions_and_caller():
    provenance = Provenance.collect()
    assert provenance.heliostat_version
    assert provenance.git_commit is None or len(provenance.git_commit) == 40
    assert {"ray", "torch", "transformers", "deepspeed"} <= provenance.package_versions.keys()
    assert provenance.user
    assert provenance.argv == tuple(sys.argv)


def test_provenance_knows_the_job_it_ran_in(monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"metadata": {"job_submission_id": "heliostat-x-1"}}')
    assert Provenance.collect().ray_job_id == "heliostat-x-1"


def test_provenance_imports_nothing_heavy():
    code = (
        "import sys; from heliostat.records import Provenance; Provenance.collect();"
        "print(sorted({'ray', 'torch', 'transformers', 'mlflow', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
