"""The report: complete, escaped, on its own."""

import json
import re

from tests.data.in_process import prepare, texts, write_jsonl

from heliostat.data.config import DataConfig
from heliostat.storage import artifact_folder

NASTY = "<script>alert('x')</script> & \"quoted\""


def test_the_report_shows_everything_and_runs_nothing(tmp_path, model):
    rows = [*texts(30), *texts(5), {"text": "write to a@b.org, " + NASTY}, {"text": NASTY}, "{broken"]
    source = {"kind": "jsonl", "path": str(write_jsonl(tmp_path / "a.jsonl", rows)), "domain": NASTY}
    steps = [{"kind": "normalise"}, {"kind": "exact_dedup"}, {"kind": "pii"}]
    config = DataConfig.model_validate(
        {"sources": [source], "steps": steps, "tokenize": {"max_sequence_length": 64}}
    )
    for artifact in prepare(config, model, tmp_path / "ws"):
        folder = artifact_folder(artifact)
        page = (folder / "report.html").read_text(encoding="utf-8")
        assert "<script" not in page
        assert not re.search(r"(src|href)=|url\(|@import|https?://", page)
        assert "&lt;script&gt;alert(&#x27;x&#x27;)" in page
        assert "prefers-color-scheme: dark" in page
        for shown in ("exact_duplicate", "broken_json", "after pii", "validation", "email", "<mark>"):
            assert shown in page
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        assert report["funnel"][0] == ["rows in the sources", 38]
        assert report["funnel"][-1][1] == 32
        assert report["dropped"] == {"broken_json": 1, "exact_duplicate": 5}
        assert sum(report["histogram"]["counts"]) == 32
        assert len(report["samples"]) == 3
    # The sample shows what the model sees, coloured where it learns.
    assert all(text.endswith("<|im_end|>") and learned for [[text, learned]] in report["samples"])
