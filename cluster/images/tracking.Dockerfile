# MLflow's server with the drivers of PostgreSQL and S3. From the repository's root:
#   docker build -f cluster/images/tracking.Dockerfile -t registry.example.com/heliostat-tracking:0.1.0 .
FROM python:3.12.11-slim-bookworm AS build
COPY constraints.txt /src/
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --constraint /src/constraints.txt mlflow boto3 'psycopg2-binary>=2.9,<3'

FROM python:3.12.11-slim-bookworm
RUN useradd --uid 1000 --create-home heliostat
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /home/heliostat
EXPOSE 5000
HEALTHCHECK --interval=20s --timeout=5s --start-period=120s --retries=6 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:5000/health', timeout=4)"]
ENTRYPOINT ["mlflow"]
CMD ["server", "--host", "127.0.0.1", "--port", "5000"]
