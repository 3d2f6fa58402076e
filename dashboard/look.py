"""How the dashboard looks and behaves: Streamlit's options. Nothing is fetched from elsewhere."""

from typing import Any

LIGHT = {
    "primaryColor": "#B4530A",
    "backgroundColor": "#FFFFFF",
    "secondaryBackgroundColor": "#F4F5F7",
    "textColor": "#1B2430",
    "linkColor": "#9A4708",
    "borderColor": "#DCE1E8",
    "codeBackgroundColor": "#F4F5F7",
    "codeTextColor": "#33404F",
    "dataframeHeaderBackgroundColor": "#F4F5F7",
    "chartCategoricalColors": [
        "#B4530A", "#2563A8", "#1F8A70", "#8E4EC6", "#C0392B", "#6B7684", "#B8860B", "#0E7490",
    ],
}  # fmt: skip
DARK = {
    "primaryColor": "#D97B29",
    "backgroundColor": "#12161C",
    "secondaryBackgroundColor": "#1C232D",
    "textColor": "#E6EAF0",
    "linkColor": "#F0A04B",
    "borderColor": "#323C49",
    "codeBackgroundColor": "#1C232D",
    "codeTextColor": "#D3DBE5",
    "dataframeHeaderBackgroundColor": "#1C232D",
    "chartCategoricalColors": [
        "#F0A04B", "#6AA9E9", "#4FC3A1", "#C39BE8", "#F07167", "#A7B1BE", "#E6C15A", "#5CC8DB",
    ],
}  # fmt: skip
SIDEBAR = {
    "light": {"backgroundColor": "#F4F5F7", "secondaryBackgroundColor": "#E8EBEF", "borderColor": "#DCE1E8"},
    "dark": {"backgroundColor": "#171C24", "secondaryBackgroundColor": "#232B36", "borderColor": "#2A333F"},
}


def options() -> dict[str, Any]:
    """Streamlit's options by their names, over whatever files of its own a machine has."""
    theme: dict[str, Any] = {
        "theme.baseRadius": "8px",
        "theme.showWidgetBorder": True,
        "theme.font": "sans-serif",
        "theme.headingFont": "sans-serif",
        "theme.codeFont": "monospace",
        "theme.headingFontSizes": ["1.75rem", "1.375rem", "1.125rem", "1rem", "0.875rem", "0.875rem"],
        "theme.headingFontWeights": [650, 600, 600, 600, 600, 600],
        "theme.metricValueFontSize": "1.75rem",
        "theme.linkUnderline": False,
        "theme.paddingTop": "1rem",
        "theme.paddingBottom": "3rem",
    }
    for mode, colours in (("light", LIGHT), ("dark", DARK)):
        theme |= {f"theme.{mode}.{name}": value for name, value in colours.items()}
        theme |= {f"theme.{mode}.sidebar.{name}": value for name, value in SIDEBAR[mode].items()}
    return theme | {
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "runner.magicEnabled": False,
        # A full collection after every redraw holds the interpreter for some 0.3 s, for all viewers.
        "runner.postScriptGC": False,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "server.enableAgentApi": False,
        "server.enableStaticServing": False,
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        "server.maxUploadSize": 200,
        "global.developmentMode": False,
    }
