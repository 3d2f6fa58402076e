"""A GGUF file read back is the same model with the same tokenizer; what it cannot hold is refused."""

import json
import shutil

import pytest
from small_models import save_tokenizer, small_llama

from heliostat.compression.config import GgufConfig
from heliostat.compression.gguf_export import STEPS, check_gguf, export_steps
from heliostat.errors import ModelError
from heliostat.models.gguf_conversion import convert_gguf
from heliostat.models.gguf_layout import PATTERNS
from heliostat.models.loading import load_model, load_tokenizer

pytestmark = pytest.mark.heavy
TEXT = "def f(x):\n    return x['key'] + 1024  # 3.14 and  2 spaces, don't\r\n\n"
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def qwen(folder, family, **changes):
    """A tiny model of the family with biases that are no zeros, a head width that heads do not divide, and a
    tokenizer that cuts as Qwen's does."""
    import torch
    import transformers

    size = save_tokenizer(folder)
    rules = json.loads((folder / "tokenizer.json").read_text())
    rules["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {
                "type": "Split",
                "pattern": {"Regex": PATTERNS["qwen2"]},
                "behavior": "Isolated",
                "invert": False,
            },
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        ],
    }
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    config = getattr(transformers, f"{family.capitalize()}Config")
    model_class = getattr(transformers, f"{family.capitalize()}ForCausalLM")
    torch.manual_seed(0)
    model = model_class(config(vocab_size=size + 8, eos_token_id=2, bos_token_id=None, **SIZES | changes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(params=["llama", "llama with biases", "qwen2", "qwen3"])
def folder(request, tmp_path, tiny_model_folder):
    if request.param == "llama":
        return tiny_model_folder
    (tmp_path / "source").mkdir()
    if request.param == "llama with biases":
        return small_llama(tmp_path / "source", attention_bias=True, tie_word_embeddings=True)
    changes = {"head_dim": 32} if request.param == "qwen3" else {"tie_word_embeddings": True}
    return qwen(tmp_path / "source", request.param, **changes)


def there_and_back(folder, tmp_path, scheme):
    (tmp_path / scheme).mkdir()
    (tmp_path / f"{scheme}-back").mkdir()
    assert list(export_steps(folder, tmp_path / scheme, GgufConfig(scheme=scheme))) == list(STEPS)
    convert_gguf(tmp_path / scheme / f"model-{scheme}.gguf", tmp_path / f"{scheme}-back")
    return tmp_path / f"{scheme}-back"


def logits(folder):
    import torch

    with torch.inference_mode():
        return load_model(folder)(torch.arange(3, 40)[None]).logits


@pytest.mark.parametrize(("scheme", "tolerance"), [("f32", 0), ("f16", 2e-3), ("q8_0", 3e-2)])
def test_weights_come_back(folder, tmp_path, scheme, tolerance):
    before, after = logits(folder), logits(there_and_back(folder, tmp_path, scheme))
    assert (before - after).abs().max() <= tolerance * before.abs().max()


def test_the_tokenizer_comes_back(folder, tmp_path):
    back = there_and_back(folder, tmp_path, "f16")
    before, after = load_tokenizer(folder), load_tokenizer(back)
    text = f"<|im_start|>user\n{TEXT}<|im_end|>\n"
    assert after.encode(text, add_special_tokens=False) == before.encode(text, add_special_tokens=False)
    assert (after.eos_token, after.chat_template) == (before.eos_token, before.chat_template)


def test_rows_that_blocks_do_not_divide_stay_in_16_bits(tmp_path):
    from gguf import GGUFReader

    (tmp_path / "source").mkdir()
    folder = small_llama(tmp_path / "source", intermediate_size=72)
    back = there_and_back(folder, tmp_path, "q8_0")
    kinds = {
        tensor.name: tensor.tensor_type.name
        for tensor in GGUFReader(tmp_path / "q8_0/model-q8_0.gguf").tensors
    }
    assert kinds["blk.0.ffn_down.weight"] == "F16"
    assert kinds["blk.0.ffn_up.weight"] == "Q8_0"
    assert (logits(folder) - logits(back)).abs().max() <= 3e-2 * logits(folder).abs().max()


def test_weights_beyond_f16_are_refused(tmp_path, tiny_model_folder):
    import torch

    folder = shutil.copytree(tiny_model_folder, tmp_path / "large")
    model = load_model(folder)
    with torch.no_grad():
        model.lm_head.weight[0, 0] = 1e6
    model.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"output\.weight has numbers beyond F16's largest, 65504"):
        list(export_steps(folder, tmp_path, GgufConfig()))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"model_type": "mamba"}, r"model_type 'mamba' \(known: llama, qwen2, qwen3\)"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type 'yarn'"),
        ({"use_sliding_window": True}, "sliding-window attention"),
    ],
)
def test_what_gguf_cannot_take_is_one_line(tmp_path, tiny_model_folder, changes, complaint):
    config = json.loads((tiny_model_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ModelError, match=complaint) as caught:
        check_gguf(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_that_cuts_otherwise_is_one_line(tmp_path, tiny_model_folder):
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    rules = json.loads((folder / "tokenizer.json").read_text())
    rules["pre_tokenizer"] = {"type": "Whitespace"}
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    with pytest.raises(ModelError, match="not a byte-level BPE tokenizer that llama") as caught:
        check_gguf(folder)
    assert "\n" not in str(caught.value)
