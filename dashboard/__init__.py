"""The dashboard: pages that draw what `heliostat.control` says. Nothing here is imported by the platform."""
