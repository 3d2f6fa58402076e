# The dashboard and the command, without torch and without Ray: they talk to the cluster over HTTP. Some 300 MB
# instead of 5 GB. From the repository's root:
#   docker build -f cluster/images/dashboard.Dockerfile -t registry.example.com/heliostat-dashboard:0.1.0 .
FROM python:3.12.11-slim-bookworm AS build
COPY constraints.txt cluster/images/dashboard-requirements.txt /src/
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --constraint /src/constraints.txt \
        --requirement /src/dashboard-requirements.txt

FROM python:3.12.11-slim-bookworm
RUN useradd --uid 1000 --create-home heliostat
COPY --from=build /opt/venv /opt/venv
COPY platform/heliostat /opt/heliostat/platform/heliostat
COPY dashboard /opt/heliostat/dashboard
COPY jobs /opt/heliostat/jobs
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/heliostat/platform PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /opt/heliostat
EXPOSE 8501
HEALTHCHECK --interval=20s --timeout=5s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/healthz', timeout=4)"]
ENTRYPOINT ["python", "-m", "heliostat.cli", "dashboard"]
CMD ["--no-browser"]
