"""A GGUF file written from the tiny model must come back as the same model with the same tokenizer."""

import json

import numpy as np
import pytest
from tiny_gguf import write_gguf

from heliostat.errors import ModelError
from heliostat.models.gguf_conversion import convert_gguf
from heliostat.models.loading import load_model, load_tokenizer
from heliostat.models.safety import check_model_folder

TEXT = "def f(x):\n    return x['key'] + 1024  # 3.14 and  2 spaces"


@pytest.fixture
def converted(tiny_model_folder, tmp_path):
    write_gguf(tiny_model_folder, tmp_path / "tiny.gguf")
    (tmp_path / "out").mkdir()
    convert_gguf(tmp_path / "tiny.gguf", tmp_path / "out")
    return tmp_path / "out"


def test_weights_come_back_the_same(tiny_model_folder, converted):
    import torch

    check_model_folder(converted)
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        before, after = (load_model(folder)(ids).logits for folder in (tiny_model_folder, converted))
    assert torch.equal(before, after)


def test_tokenizer_comes_back_the_same(tiny_model_folder, converted):
    before, after = load_tokenizer(tiny_model_folder), load_tokenizer(converted)
    text = f"<|im_start|>user\n{TEXT}<|im_end|>\n"
    assert after.encode(text) == before.encode(text)
    assert after.decode(after.encode(TEXT)) == TEXT
    assert (after.eos_token, after.chat_template) == (before.eos_token, before.chat_template)


def test_smollm_cuts_numbers_into_digits(tiny_model_folder, tmp_path):
    write_gguf(tiny_model_folder, tmp_path / "tiny.gguf", {"tokenizer.ggml.pre": "smollm"})
    convert_gguf(tmp_path / "tiny.gguf", tmp_path)
    steps = json.loads((tmp_path / "tokenizer.json").read_text())["pre_tokenizer"]["pretokenizers"]
    assert [step["type"] for step in steps] == ["Digits", "ByteLevel"]


@pytest.mark.parametrize(
    "changed", [{"tokenizer.ggml.pre": "unheard-of"}, {"general.architecture": "mamba"}], ids=str
)
def test_what_is_not_known_is_refused(tiny_model_folder, tmp_path, changed):
    write_gguf(tiny_model_folder, tmp_path / "tiny.gguf", changed)
    with pytest.raises(ModelError, match="cannot be converted"):
        convert_gguf(tmp_path / "tiny.gguf", tmp_path)


def test_an_unknown_tensor_is_refused(tiny_model_folder, tmp_path):
    extra = {"rope_freqs.weight": np.ones(8, dtype=np.float32)}
    write_gguf(tiny_model_folder, tmp_path / "tiny.gguf", tensors=extra)
    with pytest.raises(ModelError, match=r"rope_freqs\.weight"):
        convert_gguf(tmp_path / "tiny.gguf", tmp_path)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"not GGUF at all, but long enough to be looked at")
    with pytest.raises(ModelError, match="not a readable GGUF file"):
        convert_gguf(tmp_path / "x.gguf", tmp_path)
