"""The training benchmark counts right: on runs small enough to count by hand."""

import json
import math
import sys

import pytest
from tests.bench.bars import judge
from tests.bench.measure import CommandFailed
from tests.bench.session import OURS, Run
from tests.bench.training_bars import BARE, TRAINING_BARS, print_training, training_figures
from tests.bench.training_inputs import Document, long_texts, passages, short_instructions, write_peer_files
from tests.bench.training_llama_factory import ONE_PROCESS, TWO_PROCESSES, command, same_ids
from tests.bench.training_steps import (
    Steps,
    follow,
    read_trainer_log,
    read_trainer_state,
    stop_seconds,
)

PEER = ONE_PROCESS.name


def run(part: str, tool: str, rate: float, loss: float = 2.0, **figures: object) -> Run:
    losses = {"first_loss": loss, "last_loss": loss}
    return Run(part, tool, None, {"tokens_per_second": rate, **losses, **figures})


def test_the_rate_is_that_of_the_steps_between_the_first_and_the_last():
    steps = Steps((1.0,) * 6, (10.0, 30.0, 32.0, 33.0, 37.0, 99.0))
    assert steps.seconds[1:] == [20, 2, 1, 4, 62]
    assert steps.rate([9, 9, 100, 150, 100, 9], warm_up=2) == 50  # 350 tokens in 7 seconds


def test_a_run_too_short_for_a_steady_step_has_no_rate():
    assert math.isnan(Steps((1.0, 1.0), (1.0, 2.0)).rate([10, 10], warm_up=2))


def test_a_stop_is_what_the_steps_around_a_checkpoint_take_longer_wherever_it_is_written():
    seconds = [math.nan, 1, 1, 1.4, 1.2, 1, 1, 1, 1.6, 1, 1, 7]
    assert stop_seconds(seconds, every_steps=4) == pytest.approx([0.6, 0.6])


def test_their_log_has_a_step_a_line_and_what_is_no_step_or_cut_short_is_left_out(tmp_path):
    lines = [
        json.dumps({"current_steps": 1, "total_steps": 2, "loss": 2.5, "elapsed_time": "0:00:09"}),
        json.dumps({"current_steps": 2, "total_steps": 2, "loss": 2.25}),
        json.dumps({"current_steps": 2, "total_steps": 2, "epoch": 1.0}),
        '{"current_steps": 3, "lo',
    ]
    assert read_trainer_log(tmp_path) == []
    (tmp_path / "trainer_log.jsonl").write_text("\n".join(lines))
    assert read_trainer_log(tmp_path) == [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.25}]


def test_the_trainer_s_state_gives_the_losses_without_its_summary(tmp_path):
    history = [{"step": 1, "loss": 2.4567890123}, {"step": 1, "train_loss": 2.4, "train_runtime": 9.0}]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    assert read_trainer_state(tmp_path) == [{"step": 1, "loss": 2.4567890123}]


def test_each_step_has_the_time_its_line_appeared(tmp_path):
    program = (
        "import json, pathlib, sys, time\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "for step in (1, 2, 3):\n"
        "    with open(folder / 'trainer_log.jsonl', 'a') as lines:\n"
        "        lines.write(json.dumps({'current_steps': step, 'loss': 4.0 - step}) + '\\n')\n"
        "    while not (folder / f'seen-{step}').exists():\n"
        "        time.sleep(0.01)\n"
        "    time.sleep(0.3)\n"
    )

    def read():
        entries = read_trainer_log(tmp_path)
        (tmp_path / f"seen-{len(entries)}").touch()
        return entries

    steps = follow([sys.executable, "-c", program, tmp_path], read, tmp_path / "log")
    assert steps.losses == (3.0, 2.0, 1.0)
    assert all(seconds > 0.1 for seconds in steps.seconds[1:])


def test_a_run_that_fails_is_told_with_its_last_words(tmp_path):
    started = [sys.executable, "-c", "raise SystemExit('no such model')"]
    with pytest.raises(CommandFailed, match="no such model"):
        follow(started, lambda: [], tmp_path / "log")


def test_the_peer_counts_with_its_better_setting():
    runs = [
        run("long full", OURS, 120),
        run("long full", PEER, 80),
        run("long full", TWO_PROCESSES.name, 100),
        run("short LoRA", OURS, 300),
        run("short LoRA", PEER, 150),
    ]
    figures = training_figures(runs)
    assert figures["long full"] == pytest.approx(1.2)
    assert figures["short LoRA"] == 2
    assert figures["long at worst"] == pytest.approx(1.2)
    assert "short full" not in figures


def test_the_worst_ratio_is_our_slowest_repeat_over_its_fastest():
    rates = [(OURS, 120), (PEER, 100), (OURS, 110), (PEER, 125)]
    runs = [run("long LoRA", tool, rate) for tool, rate in rates]
    assert training_figures(runs)["long at worst"] == pytest.approx(110 / 125)


def test_losses_are_held_against_each_other_within_a_part_only():
    runs = [
        run("long full", OURS, 1, loss=2.0),
        run("long full", PEER, 1, loss=2.0004),
        run("short full", OURS, 1, loss=3.0),
        run("short full", PEER, 1, loss=3.002),
        run("overhead full", OURS, 1, loss=2.0),
        run("overhead full", BARE, 1, loss=2.0),
    ]
    figures = training_figures(runs)
    assert figures["peer loss"] == pytest.approx(0.002)
    assert figures["overhead loss"] == 0


def test_what_fails_counts_for_nothing_and_what_was_not_run_is_not_judged():
    runs = [
        run("overhead full", OURS, 97),
        run("overhead full", BARE, 100),
        Run("overhead LoRA", OURS, None, failure="killed"),
        run("checkpoint", OURS, 10, stop_seconds=1.2),
        run("long full", PEER, 10, same_ids=False),
    ]
    verdicts = {each.name: each for each in judge(training_figures(runs), bars=TRAINING_BARS)}
    assert {name: each.cleared for name, each in verdicts.items()} == {
        "overhead full": True,
        "overhead loss": True,
        "checkpoint": False,
        "same ids": False,
    }
    assert verdicts["checkpoint"].as_json()["limit"] == 1


def test_the_tables_name_every_tool_and_every_bar_that_was_judged(capsys):
    from rich.console import Console

    runs = [run("overhead full", OURS, 97), run("overhead full", BARE, 100)]
    verdicts = judge(training_figures(runs), bars=TRAINING_BARS)
    print_training(runs, verdicts, Console(width=120))
    shown = capsys.readouterr().out
    assert BARE in shown
    assert "cleared" in shown
    assert "distance from" in shown


def test_two_processes_share_the_step_that_one_cuts_into_accumulation(tmp_path):
    for setting, accumulation in ((ONE_PROCESS, 2), (TWO_PROCESSES, 1)):
        output = tmp_path / str(setting.num_processes)
        started = command(tmp_path / "python", {"output_dir": str(output)}, setting, 8, per_step=16)
        config = json.loads((output / "train.yaml").read_text())
        assert config["gradient_accumulation_steps"] == accumulation
        assert ("torch.distributed.run" in started) == (setting is TWO_PROCESSES)


def test_ids_that_the_peer_made_otherwise_are_noticed(tmp_path):
    import pyarrow as pa

    documents = [Document("ask", "answer", [5, 6, 7], [0, 1, 1])]
    folder = tmp_path / "tokenized" / "train"
    folder.mkdir(parents=True)
    for labels, same in (([-100, 6, 7], True), ([-100, -100, 7], False)):
        table = pa.table({"input_ids": [[5, 6, 7]], "labels": [labels]})
        with (
            pa.OSFile(str(folder / "data.arrow"), "wb") as sink,
            pa.ipc.new_stream(sink, table.schema) as out,
        ):
            out.write_table(table)
        assert same_ids(tmp_path, documents) is same


def test_a_passage_is_a_conversation_of_which_the_last_quarter_is_learned(tiny_tokenizer):
    rows = passages(tiny_tokenizer, count=4, length=256)
    for (document,) in rows:
        assert 128 < len(document.input_ids) <= 256
        learned = sum(document.loss_mask)
        assert document.loss_mask[-learned:] == [1] * learned
        assert 0.15 < learned / len(document.input_ids) < 0.35


def test_long_rows_are_full_and_short_ones_hold_as_many_conversations_as_asked(tiny_tokenizer):
    rows = long_texts(tiny_tokenizer, count=6, length=128)
    assert [len(document.input_ids) for row in rows for document in row] == [128] * 6
    assert len({document.answer for row in rows for document in row}) == 6
    for (document,) in rows:
        text = tiny_tokenizer.decode(document.input_ids)
        assert (document.prompt + document.answer).startswith(text)
        assert 0 < document.loss_mask.count(0) == document.loss_mask.index(1)
    rows = short_instructions(tiny_tokenizer, count=3, per_row=4, longest=2048)
    assert [len(row) for row in rows] == [4] * 3
    for document in (document for row in rows for document in row):
        learned = [token for token, of in zip(document.input_ids, document.loss_mask, strict=True) if of]
        assert learned[-1] == tiny_tokenizer.eos_token_id
        assert tiny_tokenizer.decode(document.input_ids) == document.prompt + document.answer


def test_the_dataset_is_read_in_the_order_of_the_rows(tiny_model_folder, tmp_path):
    from small_artifacts import publish_model
    from tests.bench.training_inputs import SEED, publish_material, tokenizer_of

    from heliostat.storage import artifact_folder
    from heliostat.tokenized import TokenizedDataset
    from heliostat.training.schedule import batch_positions
    from heliostat.workspace import Workspace

    workspace = Workspace.resolve(str(tmp_path))
    model = publish_model(workspace, tiny_model_folder)
    rows = long_texts(tokenizer_of(model), count=6, length=32)
    material = publish_material(workspace, model, "long", rows, rows_per_step=2)
    dataset = TokenizedDataset(artifact_folder(material.dataset), "train")
    read = [position for step in range(3) for position in batch_positions(step, 6, 2, SEED)]
    assert [dataset[position].input_ids.tolist() for position in read] == [row[0].input_ids for row in rows]
    assert material.tokens_per_step == [64] * 3


def test_the_peer_s_files_hold_a_line_a_document_and_say_which_column_is_what(tmp_path):
    write_peer_files(tmp_path / "files", [Document("ask", "answer", [], [])] * 2)
    lines = (tmp_path / "files" / "train.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"prompt": "ask", "response": "answer"}] * 2
    described = json.loads((tmp_path / "files" / "dataset_info.json").read_text())
    assert described["train"]["columns"] == {"prompt": "prompt", "response": "response"}
