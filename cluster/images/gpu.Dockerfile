# Ray, Heliostat and its stages on NVIDIA GPUs: the train group. With CUDA's compiler, for DeepSpeed builds its ops at
# first use; CUDA's version is that of the torch in constraints.txt. From the repository's root:
#   docker build -f cluster/images/gpu.Dockerfile -t registry.example.com/heliostat-gpu:0.1.0 .
FROM nvidia/cuda:13.0.1-cudnn-devel-ubuntu24.04 AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3.12-venv g++ ninja-build \
    && rm -rf /var/lib/apt/lists/*
RUN python3.12 -m venv /opt/venv
COPY constraints.txt pyproject.toml README.md LICENSE /src/
COPY platform/heliostat /src/platform/heliostat
RUN /opt/venv/bin/pip install --no-cache-dir --constraint /src/constraints.txt '/src[postgresql]' boto3

FROM nvidia/cuda:13.0.1-cudnn-devel-ubuntu24.04
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3.12 python3.12-dev g++ ninja-build openssl rsync wget tini \
    && rm -rf /var/lib/apt/lists/* \
    && userdel --remove ubuntu && useradd --uid 1000 --create-home heliostat
COPY --from=build /opt/venv /opt/venv
COPY jobs /opt/heliostat/jobs
COPY cluster/environment.sh cluster/start_head.sh cluster/start_worker.sh cluster/make_certificate.sh \
    /opt/heliostat/cluster/
ENV PATH=/opt/venv/bin:$PATH RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 RAY_TRAIN_V2_ENABLED=1 \
    TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1 TORCH_EXTENSIONS_DIR=/tmp/torch-extensions
USER 1000:1000
WORKDIR /opt/heliostat
ENTRYPOINT ["tini", "--"]
CMD ["bash"]
