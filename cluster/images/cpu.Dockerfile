# Ray, Heliostat and its stages on CPUs: the head and the data group. From the repository's root:
#   docker build -f cluster/images/cpu.Dockerfile -t registry.example.com/heliostat-cpu:0.1.0 \
#       --build-arg TORCH_INDEX_URL=(PyTorch's index of CPU wheels, see pytorch.org; without it CUDA comes along) .
# All Ray images have Ubuntu's Python 3.12: Ray's nodes must agree on Python and Ray.
FROM ubuntu:24.04 AS build
ARG TORCH_INDEX_URL=""
RUN apt-get update && apt-get install --yes --no-install-recommends python3.12-venv g++ ninja-build \
    && rm -rf /var/lib/apt/lists/*
RUN python3.12 -m venv /opt/venv
COPY constraints.txt pyproject.toml README.md LICENSE /src/
COPY platform/heliostat /src/platform/heliostat
RUN if [ -n "$TORCH_INDEX_URL" ]; then \
        /opt/venv/bin/pip install --no-cache-dir --index-url "$TORCH_INDEX_URL" \
            "$(grep '^torch==' /src/constraints.txt)"; \
    fi \
    && /opt/venv/bin/pip install --no-cache-dir --constraint /src/constraints.txt '/src[postgresql]' boto3

FROM ubuntu:24.04
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3.12 python3.12-dev g++ ninja-build openssl rsync wget tini \
    && rm -rf /var/lib/apt/lists/* \
    && userdel --remove ubuntu && useradd --uid 1000 --create-home heliostat
COPY --from=build /opt/venv /opt/venv
COPY jobs /opt/heliostat/jobs
COPY cluster/environment.sh cluster/start_head.sh cluster/start_worker.sh cluster/make_certificate.sh \
    /opt/heliostat/cluster/
ENV PATH=/opt/venv/bin:$PATH RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 RAY_TRAIN_V2_ENABLED=1 \
    TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /opt/heliostat
# No HEALTHCHECK: KubeRay probes the raylet and the GCS itself, and the launcher looks after its containers.
ENTRYPOINT ["tini", "--"]
CMD ["bash"]
