"""From data to ECharts options: pure functions, plain JSON out, no JavaScript and no Streamlit."""
