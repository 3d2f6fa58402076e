# The GPU image with vLLM in an environment of its own, for vLLM asks for other versions of torch and transformers than
# Heliostat: the serve group. A recipe names it: `serve: {engine: {kind: vllm, python: /opt/vllm/bin/python}}`.
#   docker build -f cluster/images/serving.Dockerfile -t registry.example.com/heliostat-serving:0.1.0 \
#       --build-arg GPU_IMAGE=registry.example.com/heliostat-gpu:0.1.0 .
ARG GPU_IMAGE=registry.example.com/heliostat-gpu:0.1.0
FROM nvidia/cuda:13.0.1-cudnn-devel-ubuntu24.04 AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3.12-venv python3.12-dev g++ \
    && rm -rf /var/lib/apt/lists/*
RUN python3.12 -m venv /opt/vllm && /opt/vllm/bin/pip install --no-cache-dir 'vllm==0.33.0'

FROM ${GPU_IMAGE}
COPY --from=build /opt/vllm /opt/vllm
USER 1000:1000
