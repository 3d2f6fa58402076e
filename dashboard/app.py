"""The script that Streamlit runs: the frame around every page."""

from dashboard.frame import page_of_this_run

page_of_this_run().run()
