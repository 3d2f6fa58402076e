"""The data config: what it refuses, what decides the cleaned documents, and that it loads nothing heavy."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from heliostat.data.config import DataConfig, LengthStep, TokenizeConfig

SOURCE = {"kind": "jsonl", "path": "data.jsonl"}


def config(**values) -> DataConfig:
    return DataConfig.model_validate({"sources": [SOURCE]} | values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sources": []}, "at least 1"),
        ({"sources": [{"kind": "jsonlines", "path": "x"}]}, "jsonl"),
        (
            {"sources": [SOURCE | {"form": "text", "columns": {"body": "x"}}]},
            "form 'text' has no column 'body'",
        ),
        ({"sources": [SOURCE | {"domain": "a", "columns": {"domain": "d"}}]}, "not both"),
        ({"sources": [{"kind": "python_docs", "min_characters": 700}]}, "above max_characters=600"),
        ({"sources": [{"kind": "python_docs", "packages": []}]}, "packages is empty"),
        ({"steps": [{"kind": "length"}]}, "no limit given; give at least one"),
        (
            {"steps": [{"kind": "length", "min_tokens": 9, "max_tokens": 8}]},
            "min_tokens=9 is above max_tokens=8",
        ),
        ({"steps": [{"kind": "pii", "find": []}]}, "at least 1"),
        ({"split": {"train": 0.8, "validation": 0.1, "test": 0.2}}, "must be 1, got 1.1"),
        ({"split": {"train": 0, "validation": 0.5, "test": 0.5}}, "greater than 0"),
        ({"tokenize": {"max_sequence_length": 4}}, "greater than or equal to 8"),
        ({"name": "../up"}, "match pattern"),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(values, message):
    with pytest.raises(ValidationError, match=message):
        config(**values)


def test_tokenizing_and_resources_do_not_decide_the_cleaned_documents():
    one, other = config(), config(tokenize={"max_sequence_length": 64}, name="other")
    assert one.cleaning.fingerprint() == other.cleaning.fingerprint()
    assert one.fingerprint() != other.fingerprint()
    assert config(resources={"num_cpus": 2}).fingerprint() == one.fingerprint()


def test_only_a_limit_in_tokens_needs_the_tokenizer():
    assert not config(steps=[{"kind": "length", "max_characters": 9}]).needs_tokenizer
    assert config(steps=[{"kind": "length", "max_tokens": 9}]).needs_tokenizer


def test_the_defaults_are_those_of_the_room():
    plain = config()
    assert [step.kind for step in plain.steps] == ["normalise", "exact_dedup"]
    assert plain.tokenize == TokenizeConfig(max_sequence_length=2048, packing=True, too_long="drop")
    assert LengthStep(min_tokens=3).counts_tokens


def test_checking_sources_loads_neither_ray_nor_torch(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n')
    code = (
        "import sys\n"
        "from heliostat.data.config import DataConfig\n"
        "assert 'pyarrow' not in sys.modules\n"
        "from heliostat.data.sources import check_sources\n"
        "assert 'pyarrow' not in sys.modules\n"
        f"check_sources(DataConfig(sources=[{{'kind': 'jsonl', 'path': {str(tmp_path)!r}}}]))\n"
        "print({'ray', 'torch', 'transformers', 'mlflow'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
