"""`heliostat data inspect`: what is found in a path, in words, with and without a model."""

import copy
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.source_files import CHAT, write_jsonl

from heliostat.cli.app import app, execute
from heliostat.cli.data import app as data_commands
from heliostat.data import source_counts
from heliostat.data.inspection import Lengths, inspect_path, source_of
from heliostat.data.source_counts import Count
from heliostat.data.source_drawing import print_inspection
from heliostat.errors import ConfigError

pytestmark = pytest.mark.heavy

ROWS = [{"text": "a" * number, "n": number, "tags": ["x"]} for number in range(1, 101)]


def printed(path: Path, capsys, *overrides: str, tokenizer=None) -> str:
    print_inspection(inspect_path(str(path), overrides, tokenizer))
    return capsys.readouterr().out


# What is found.


def test_a_file_of_lines_is_described(tmp_path):
    found = inspect_path(str(write_jsonl(tmp_path / "a.jsonl", [*ROWS, "oops", {"text": None}, "oops"])))
    assert (found.kinds, found.form, found.why) == ({"jsonl": 1}, "text", "told from the columns 'text'")
    assert found.columns == [
        ("text", "string or null", "text"),
        ("n", "integer", ""),
        ("tags", "list of string", ""),
    ]
    assert found.rows == Count(103)
    assert (found.looked_at, found.files_looked_at) == (103, 1)
    assert {reason: (said.number, said.first_uid) for reason, said in found.broken.items()} == {
        "broken_json": (2, "a.jsonl:101"),
        "missing_value": (1, "a.jsonl:102"),
    }
    assert found.characters == Lengths(1, 11, 51, 91, 100, 100)
    assert found.sample is not None
    assert found.sample.uid == "a.jsonl:1"
    assert found.tokens is None


def test_more_rows_than_are_looked_at_are_counted(tmp_path):
    found = inspect_path(str(write_jsonl(tmp_path / "a.jsonl", [{"text": "x"}] * 5000)))
    assert (found.rows, found.looked_at) == (Count(5000), 1000)
    (tmp_path / "a.txt").write_text("\n\n".join("piece" for _ in range(3000)))
    found = inspect_path(str(tmp_path / "a.txt"), ("kind=text", 'separator="\\n\\n"'))
    assert (found.rows, found.looked_at) == (Count(3000), 1000)
    pq.write_table(pa.table({"text": ["x"] * 5000, "n": range(5000)}), tmp_path / "a.parquet")
    found = inspect_path(str(tmp_path / "a.parquet"))
    assert (found.rows, found.looked_at) == (Count(5000), 1000)
    assert found.columns == [("text", "string", "text"), ("n", "int64", "")]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl.gz", "a.json"])
def test_where_counting_is_dear_rows_are_estimated_and_said_to_be(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(source_counts, "FURTHER_BYTES", 0)
    rows = [{"text": f"{number} {os.urandom(300).hex()}"} for number in range(20_000)]
    content = "".join(f"{json.dumps(row)}\n" for row in rows)
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress(content.encode(), 1))
    elif name.endswith(".json"):
        (tmp_path / name).write_text(json.dumps(rows))
    else:
        (tmp_path / name).write_text("text\n" + "\n".join(row["text"] for row in rows))
    found = inspect_path(str(tmp_path / name))
    assert not found.rows.is_exact
    assert 10_000 < found.rows.number < 40_000
    print_inspection(found)
    assert f"rows        about {found.rows.number:,} (estimated)\n" in capsys.readouterr().out
    monkeypatch.setattr(source_counts, "FURTHER_BYTES", 2**30)
    assert inspect_path(str(tmp_path / name)).rows == Count(20_000)


def test_a_folder_is_looked_at_file_by_file(tmp_path):
    for number in range(5):
        write_jsonl(tmp_path / f"{number}.jsonl", [{"text": f"{number}"}] * 400)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    found = inspect_path(str(tmp_path))
    assert (found.kinds, found.rows) == ({"jsonl": 5}, Count(2000))
    assert (found.looked_at, found.files_looked_at) == (1000, 5)
    assert found.left_out == [f"{tmp_path.name}/picture.png"]


def test_many_files_are_counted_or_estimated_from_the_first(tmp_path):
    for number in range(205):
        write_jsonl(tmp_path / "rows" / f"{number:03}.jsonl", [{"text": "x"}] * 2)
        (tmp_path / "pages").mkdir(exist_ok=True)
        (tmp_path / "pages" / f"{number:03}.html").write_text("<p>words</p>")
    assert inspect_path(str(tmp_path / "rows")).rows == Count(410, is_exact=False)
    assert inspect_path(str(tmp_path / "pages")).rows == Count(205)


@pytest.mark.parametrize(
    ("row", "form", "why"),
    [
        ({"messages": CHAT}, "messages", "told from the columns 'messages'"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference", "told from the columns 'chosen' and"),
        (
            {"question": "a", "answer": "b"},
            "alpaca",
            "'question' is read as instruction; 'answer' is read as output",
        ),
        ({"text": "a", "label_1": 1, "label_2": 0}, "labels", "'label_1, label_2' is read as labels"),
    ],
)
def test_the_form_is_said_and_why(tmp_path, row, form, why):
    found = inspect_path(str(write_jsonl(tmp_path / "a.jsonl", [row])))
    assert found.form == form
    assert why in found.why


def test_columns_that_are_not_there_are_not_said_to_tell_the_form(tmp_path):
    path = str(write_jsonl(tmp_path / "a.jsonl", [{"messages": CHAT}] * 3))
    assert inspect_path(path).why == "told from the columns 'messages'"
    write_jsonl(tmp_path / "a.jsonl", [{"messages": CHAT}] * 60 + [{"messages": CHAT, "system": "请简短"}])
    found = inspect_path(path)
    assert [(name, read_as) for name, _, read_as in found.columns] == [
        ("messages", "messages"),
        ("system", "system"),
    ]


def test_files_that_are_left_out_are_named(tmp_path):
    write_jsonl(tmp_path / "notice.jsonl", [{"text": "公告"}])
    (tmp_path / "NOTICE.md").write_text("no data")
    assert inspect_path(str(tmp_path)).left_out == [f"{tmp_path.name}/NOTICE.md"]
    assert inspect_path(f"{tmp_path}/*.md").left_out == []


def test_languages_are_told(tmp_path):
    english = {"text": "The harbour of the old town was built long ago, and its piers still stand today."}
    chinese = {"text": "旧城的港口建于一六五〇年，三座码头至今仍在原地，每年春天渔民都会修补墙壁。"}
    found = inspect_path(str(write_jsonl(tmp_path / "a.jsonl", [english, english, english, chinese])))
    assert found.languages == [("en", 0.75), ("zh", 0.25)]


def test_keys_of_messages_that_are_not_read_are_named(tmp_path):
    turns = [CHAT[0], CHAT[1] | {"weight": 0, "reasoning_content": "hm", "name": None}]
    found = inspect_path(str(write_jsonl(tmp_path / "a.jsonl", [{"messages": turns}])))
    assert found.remarks == ["not read of the messages: reasoning_content, weight"]


def test_keys_of_a_recipe_change_what_is_looked_at(tmp_path):
    file = write_jsonl(tmp_path / "a.jsonl", [{"body": "x", "text": "y", "id": 1}])
    found = inspect_path(str(file), ("columns.text=body", "keep_columns=[id]", "domain=law"))
    assert found.sample is not None
    assert (found.sample.text, found.sample.domain, found.sample.metadata) == ("x", "law", {"id": 1})
    assert [read_as for _, _, read_as in found.columns] == ["text", "", "kept"]
    assert found.why == "told from the columns; 'body' is read as text"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("form=tex",), "override 'form=tex': form: expected 'auto', 'preference'"),
        (("kind=jsonk",), "override 'kind=jsonk': unknown kind 'jsonk'; did you mean 'json"),
        (("kind=zip",), "unknown kind 'zip'; known: files, jsonl, json, parquet, csv, text, html, warc"),
        (("colums.text=a",), "colums: unknown key; did you mean 'columns'?"),
        (("form",), "override 'form': expected key=value"),
    ],
)
def test_a_wrong_key_is_explained(overrides, message):
    with pytest.raises(ConfigError) as caught:
        source_of("a.jsonl", overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# In words.


def test_the_whole_page_for_a_pipe_has_no_colours_and_fits_80_columns(tmp_path, capsys):
    rows = [{"messages": CHAT, "a_rather_long_column_name_of_a_wide_table": {"k": 1}} for _ in range(3)]
    path = write_jsonl(tmp_path / "a.jsonl", [*rows, "[" * 300, {"messages": []}])
    said = printed(path, capsys)
    lines = said.splitlines()
    assert lines[0] == f"path        {path}"
    assert "\x1b" not in said
    assert max(map(len, lines[1:])) <= 80
    assert [line[:12].strip() for line in lines if line[:12].strip()][:9] == [
        "path",
        "files",
        "form",
        "rows",
        "looked at",
        "broken",
        "columns",
        "characters",
        "languages",
    ]
    assert "rows        5\n" in said
    assert "broken           1  broken_json  first: a.jsonl:4" in said
    assert "                 1  no_messages  first: a.jsonl:5" in said
    assert "characters  least 7  10 % 7  median 7  90 % 7  99 % 7  most 7" in said
    assert said.rstrip().endswith("sample      a.jsonl:1\nuser\nHi\nassistant\nHello")


def test_with_a_model_tokens_are_counted_and_the_loss_mask_is_shown(tmp_path, capsys, tiny_tokenizer):
    path = write_jsonl(tmp_path / "a.jsonl", [{"messages": CHAT}])
    found = inspect_path(str(path), tokenizer=tiny_tokenizer)
    length = len(tiny_tokenizer.apply_chat_template(CHAT, tokenize=True, return_dict=False))
    assert found.tokens is not None
    assert found.tokens.most == length
    assert found.sample_runs == [
        ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", False),
        ("Hello<|im_end|>", True),
        ("\n", False),
    ]
    said = printed(path, capsys, tokenizer=tiny_tokenizer)
    assert "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦Hello<|im_end|>⟧\n" in said


def test_in_a_terminal_the_loss_mask_is_coloured(tmp_path, capsys, tiny_tokenizer, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    path = write_jsonl(tmp_path / "a.jsonl", [{"messages": CHAT}])
    said = printed(path, capsys, tokenizer=tiny_tokenizer)
    assert "\x1b[32mHello<|im_end|>\x1b[0m" in said
    assert "\x1b[2m<|im_start|>user\x1b[0m" in said
    assert "⟦" not in said


def test_a_template_that_refuses_is_a_remark(tmp_path, tiny_tokenizer):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = "{{ raise_exception('no chat here') }}"
    found = inspect_path(
        str(write_jsonl(tmp_path / "a.jsonl", [{"messages": CHAT}] * 2)), tokenizer=tokenizer
    )
    assert found.remarks == ["2 of 2 refused: the chat template refuses this conversation: no chat here"]
    assert found.tokens is None


def test_what_would_steer_the_terminal_is_not_printed(tmp_path, capsys):
    said = printed(
        write_jsonl(tmp_path / "a.jsonl", [{"text": "red \x1b[31m\x07 bell", "\x1b]0;x\x07": 1}]), capsys
    )
    assert "\x1b" not in said
    assert "\x07" not in said
    assert "red \N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER} bell" in said


def test_a_file_without_a_usable_row_has_no_sample(tmp_path, capsys):
    said = printed(write_jsonl(tmp_path / "a.jsonl", [{"text": ""}]), capsys)
    assert "sample" not in said
    assert "characters" not in said
    assert "broken           1  empty  first: a.jsonl:1" in said


# The command.


@pytest.fixture
def command():
    """The command line with the group, as `heliostat.cli.app` has it."""
    if "data" not in [group.name for group in app.registered_groups]:
        app.add_typer(data_commands, name="data")
    return execute


def test_the_command_prints_what_was_found(command, tmp_path, capsys, tiny_model_folder):
    path = write_jsonl(tmp_path / "a.jsonl", [{"q": "Why?", "a": "Because."}])
    arguments = ["data", "inspect", str(path), "form=alpaca", "columns.instruction=q", "columns.output=a"]
    assert command([*arguments, "--model", str(tiny_model_folder)]) == 0
    said = capsys.readouterr().out
    assert "form        alpaca (as asked; 'q' is read as instruction; 'a' is read as" in said
    assert "⟦Because.<|im_end|>⟧" in said


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, "no such file or folder"),
        ("empty.jsonl", b"", "the file is empty"),
        ("a.bin", b"\x00\x01", "is binary or UTF-16"),
        ("a.jsonl", b'{"a": 1}\n', "cannot tell the form from its columns (a)"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n')[:20], "cannot be read: Truncated compressed stream"),
    ],
)
def test_bad_paths_are_one_line_and_exit_code_2(command, tmp_path, capsys, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert command(["data", "inspect", str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("heliostat: error: ")
    assert message in said
    assert said.count("\n") == 1


def test_a_model_that_is_not_there_is_one_line(command, tmp_path, capsys):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    assert command(["data", "inspect", str(path), "--model", str(tmp_path)]) == 2
    assert f"{tmp_path}: no tokenizer.json" in capsys.readouterr().err


def test_looking_at_a_small_file_is_quick_and_light(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    code = (
        "import sys\n"
        "from heliostat.data.inspection import inspect_path\n"
        "from heliostat.data.source_drawing import print_inspection\n"
        f"print_inspection(inspect_path({str(path)!r}))\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'ray', 'torch', 'transformers', 'mlflow'}, loaded\n"
    )
    before = os.times()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = os.times()
    assert after.children_user - before.children_user < 3  # it takes 1; of work, not of waiting for a core
