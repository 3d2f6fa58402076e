"""What a model in training wrote, step after step, beside what should stand there."""

import streamlit as st

from dashboard.parts.links import kept
from dashboard.parts.text import number
from dashboard.session import Session
from heliostat.control.run_samples import read_samples, sample_steps


def samples(session: Session, run_id: str | None) -> None:
    """The samples of a step, the latest unless another is chosen."""
    t, workspace = session.t, session.site.workspace
    steps = sample_steps(workspace, run_id) if run_id else []
    if run_id is None or not steps:
        st.info(t("samples.none"), icon=":material/info:")
        st.code("train:\n  validation: {num_samples: 2}", language="yaml")
        return
    names = [str(step) for step in steps]
    chosen = st.selectbox(t("samples.step"), names, **kept("samples", names), width=200)
    found = read_samples(workspace, run_id, int(chosen or names[0]))
    if found.metrics:
        st.text(" · ".join(f"{name} {number(value)}" for name, value in found.metrics.items()))
    for each in found.samples:
        with st.container(border=True):
            st.caption(t("samples.prompt"))
            st.code(each.prompt, language=None, wrap_lines=True)
            with st.grid(min_column_width=280):
                for title, text in (("written", each.written), ("expected", each.expected)):
                    with st.container():
                        st.caption(t(f"samples.{title}"))
                        st.code(text, language=None, wrap_lines=True)
