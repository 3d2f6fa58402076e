"""Data: the workspace's datasets; one in detail with what was dropped and why, and its documents."""

import streamlit as st
import yaml
from dashboard.charts.bars import bar_chart, funnel_chart, histogram_chart
from dashboard.charts.bars import height_of as bars_height
from dashboard.charts.colours import PALETTE
from dashboard.parts.chart import chart
from dashboard.parts.documents import documents
from dashboard.parts.links import back, go, has_page, open_here, section
from dashboard.parts.pieces import Tile, command_line, tiles
from dashboard.parts.states import empty, unavailable
from dashboard.parts.table import table
from dashboard.parts.text import moment, number, plain, size
from dashboard.session import current, time_zone
from dashboard.studies import dataset_of, datasets_of, lengths_of

from heliostat.control.datasets import Dataset, DatasetDetail
from heliostat.control.readings import Unavailable
from heliostat.control.shown_commands import command_on

SECTIONS = ("overview", "documents", "lengths", "duplicates", "tokens", "config")
MOST_LANGUAGES = 3
session = current()
t = session.t
root = session.site.workspace.storage.root


def show_list() -> None:
    """All datasets, or why there is none."""
    st.title(t("data.title"))
    reading = datasets_of(root)
    if isinstance(reading, Unavailable):
        unavailable(reading)
        return
    if not reading.value:
        can_start = has_page("new_run")
        empty(t("data.empty"), t("data.start") if can_start else "", lambda: go("new_run", preset="clean"))
        recipe = "jobs/recipes/quickstart.yaml"
        command_line(command_on(session.site, "heliostat", "run", recipe, "--until", "data"))
        return
    rows = [_row(dataset) for dataset in reading.value]
    columns = {
        t("data.kept_share"): st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1),
        t("data.read"): st.column_config.NumberColumn(format="localized"),
        t("data.kept"): st.column_config.NumberColumn(format="localized"),
        t("data.tokens"): st.column_config.NumberColumn(format="compact"),
    }
    ids = [dataset.id for dataset in reading.value]
    chosen = table(rows, key="datasets", ids=ids, columns=columns, choose="one", alt=t("data.title"))
    st.caption(t("data.choose"))
    if chosen:
        open_here(dataset=chosen[0])


def _row(dataset: Dataset) -> dict[str, object]:
    return {
        t("data.name"): dataset.name,
        t("data.version"): f"v{dataset.version}",
        t("data.read"): dataset.read,
        t("data.kept"): dataset.kept,
        t("data.kept_share"): dataset.kept / dataset.read if dataset.read else None,
        t("data.tokens"): dataset.tokens.kept if dataset.tokens else None,
        t("data.languages"): _languages(dataset),
        t("data.size"): size(dataset.bytes),
        t("data.made"): moment(dataset.created_at, time_zone()),
        t("data.id"): dataset.id,
    }


def _languages(dataset: Dataset) -> str:
    total = sum(dataset.languages.values())
    shown = list(dataset.languages.items())[:MOST_LANGUAGES]
    return ", ".join(f"{name} {count / total:.0%}" for name, count in shown) or "–"


def show_detail(dataset_id: str) -> None:
    """One dataset: its figures, and one part of what is known."""
    back()
    reading = dataset_of(root, dataset_id)
    if isinstance(reading, Unavailable):
        unavailable(reading)
        return
    detail = reading.value
    dataset = detail.dataset
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title(plain(f"{dataset.name} v{dataset.version}"))
        if has_page("new_run") and st.button(
            t("data.train"), type="primary", icon=":material/model_training:"
        ):
            go("new_run", dataset=dataset.id)
    st.caption(plain(f"{dataset.id} · {moment(dataset.created_at, time_zone())} · {size(dataset.bytes)}"))
    share = f"{dataset.kept / dataset.read:.1%}" if dataset.read else "–"
    tiles(
        [
            Tile(t("data.read"), number(dataset.read)),
            Tile(t("data.kept"), number(dataset.kept), help=t("data.kept_help", share=share)),
            Tile(t("data.dropped"), number(dataset.dropped)),
            Tile(t("data.tokens"), number(dataset.tokens.kept if dataset.tokens else None)),
            Tile(t("data.languages"), _languages(dataset)),
        ]
    )
    part = section(SECTIONS, "data.section")
    parts = {
        "overview": lambda: overview(detail),
        "documents": lambda: documents(root, detail),
        "lengths": lambda: lengths(dataset_id),
        "duplicates": lambda: duplicates(detail),
        "tokens": lambda: tokens(detail),
        "config": lambda: config(detail),
    }
    parts[part]()


def overview(detail: DatasetDetail) -> None:
    """What each step kept, why documents went, and what was found in them."""
    st.subheader(t("data.funnel"))
    steps = [(step.name, step.kept, step.read - step.kept) for step in detail.steps]
    rows = [
        {t("data.step"): step.name, t("data.in"): step.read, t("data.kept"): step.kept}
        | {t("data.dropped"): step.read - step.kept}
        for step in detail.steps
    ]
    told = t("data.funnel_alt", read=detail.dataset.read, kept=detail.dataset.kept)
    option = funnel_chart(steps, t("data.kept"), t("data.dropped"), session.dark)
    chart(option, key="funnel", alt=told, rows=rows, height=bars_height(len(steps), legend=True))
    reasons = sorted(
        ((step.name, reason, count) for step in detail.steps for reason, count in step.dropped.items()),
        key=lambda each: -each[2],
    )
    st.subheader(t("data.why"))
    if not reasons:
        st.info(t("data.nothing_dropped"), icon=":material/check:")
    else:
        labels = _labels(reasons)
        rows = [
            {t("data.step"): step, t("data.reason"): reason, t("data.documents"): count}
            for step, reason, count in reasons
        ]
        option = bar_chart(labels, {t("data.documents"): [count for *_, count in reasons]}, dark=session.dark)
        top = t("data.why_alt", reason=reasons[0][1], count=reasons[0][2])
        chart(option, key="why", alt=top, rows=rows, height=bars_height(len(labels)))
    _quality(detail)
    _found(detail)


def _labels(reasons: list[tuple[str, str, int]]) -> list[str]:
    """The reasons; with the step where two steps give the same."""
    names = [reason for _, reason, _ in reasons]
    return [reason if names.count(reason) == 1 else f"{reason} ({step})" for step, reason, _ in reasons]


def _quality(detail: DatasetDetail) -> None:
    if not detail.quality:
        return
    st.subheader(t("data.quality"))
    met = {True: "✓", False: "✗", None: "–"}
    table(
        [
            {
                t("data.figure"): str(row["figure"]).replace("_", " "),
                t("data.before"): number(row["before"]),
                t("data.after"): number(row["after"]),
                t("data.target"): f"{row['bound']} {number(row['target'])}" if row["bound"] else "–",
                t("data.met"): met[row["met"]],
            }
            for row in detail.quality
        ],
        key="quality",
        alt=t("data.quality"),
    )


def _found(detail: DatasetDetail) -> None:
    kinds = {
        "languages": detail.dataset.languages,
        "pii": detail.pii,
        "domains": detail.domains,
        "splits": detail.dataset.splits,
    }
    shown = {name: counts for name, counts in kinds.items() if counts}
    with st.grid(min_column_width=300):
        for number_of, (name, counts) in enumerate(shown.items()):
            with st.container(border=True):
                st.markdown(f"**{t(f'data.found.{name}')}**")
                top = dict(sorted(counts.items(), key=lambda item: -item[1])[:12])
                option = bar_chart(
                    list(top),
                    {t("data.documents"): list(top.values())},
                    dark=session.dark,
                    colours=PALETTE[number_of:],
                )
                rows = [{t(f"data.found.{name}"): key, t("data.documents"): n} for key, n in counts.items()]
                alt = f"{t(f'data.found.{name}')}: {', '.join(list(top)[:3])}"
                chart(option, key=f"found_{name}", alt=alt, rows=rows, height=bars_height(len(top)))


def lengths(dataset_id: str) -> None:
    """How long documents are, before and after."""
    reading = lengths_of(root, dataset_id)
    if isinstance(reading, Unavailable):
        unavailable(reading)
        return
    found = reading.value
    st.subheader(t("data.lengths"))
    before, after = t("data.before"), t("data.after")
    option = histogram_chart(
        found.edges, {before: found.before, after: found.after}, t("data.characters"), session.dark
    )
    rows = [
        {t("data.from"): low, t("data.to"): high, before: b, after: a}
        for low, high, b, a in zip(found.edges, found.edges[1:], found.before, found.after, strict=False)
    ]
    chart(option, key="lengths", alt=t("data.lengths_alt"), rows=rows, height=360)
    st.caption(t("data.lengths_note", measured=f"{found.measured:,}", documents=f"{found.documents:,}"))


def duplicates(detail: DatasetDetail) -> None:
    """Pairs of which one went, side by side."""
    st.subheader(t("data.pairs"))
    if not detail.pairs:
        st.info(t("data.no_pairs"), icon=":material/check:")
        return
    st.caption(t("data.pairs_note"))
    for pair in detail.pairs:
        with st.container(border=True):
            st.badge(f"{t('data.similarity')} {pair.similarity:.2f}", color="orange")
            with st.grid(min_column_width=320):
                for label, uid, text in (
                    (t("data.kept"), pair.kept_uid, pair.kept_text),
                    (t("data.dropped"), pair.uid, pair.text),
                ):
                    with st.container():
                        st.markdown(f"**{label}**")
                        st.caption(plain(uid))
                        st.text(text)


def tokens(detail: DatasetDetail) -> None:
    """What tokenizing made of it."""
    st.subheader(t("data.tokenized"))
    if not detail.tokenized:
        st.info(t("data.not_tokenized"))
        return
    rows = [
        {
            t("data.id"): form.id,
            t("data.split"): split,
            t("data.documents"): int(told["documents"]),
            t("data.tokens"): int(told["tokens"]),
            t("data.rows"): int(told["rows"]),
            t("data.packing"): told["packing_efficiency"],
            t("data.length"): form.max_sequence_length,
        }
        for form in detail.tokenized
        for split, told in form.splits.items()
    ]
    columns = {t("data.packing"): st.column_config.NumberColumn(format="percent")}
    table(rows, key="tokenized", columns=columns, alt=t("data.tokenized"))


def config(detail: DatasetDetail) -> None:
    """How to make it again."""
    st.caption(t("data.config_note"))
    text = yaml.safe_dump({"data": detail.config}, sort_keys=False, allow_unicode=True)
    st.code(text, language="yaml", wrap_lines=True)
    st.text(t("data.sources", n=detail.num_sources))
    if detail.report:
        st.text(t("data.report"))
        st.code(detail.report, language=None, wrap_lines=True)
    command_line(command_on(session.site, "heliostat", "models", "lineage", detail.dataset.id, "--down"))


asked = st.query_params.get("dataset")
if asked:
    show_detail(asked)
else:
    show_list()
