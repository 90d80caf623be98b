# Everything to train and evaluate, as locked, for one kind of device a stage:
#
#     docker build --target=cuda -t REGISTRY/vljepa_jax:cuda .   # or tpu; cpu if none is named
#
# The decoding processes hand clips over in shared memory, of which Docker gives 64 MB by default:
# docker run --gpus=all --shm-size=64g -v /data:/data REGISTRY/vljepa_jax:cuda \
#     python launch/train.py --config=configs/vljepa_1b.py:image --workdir=/data/runs/image
FROM python:3.12-slim-trixie AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
WORKDIR /vljepa_jax
# What is installed depends on these alone: changed code makes no new layer of it.
COPY pyproject.toml README.md LICENSE ./
COPY locks locks
COPY vljepa_jax/data/world/assets/LICENSE.noto-emoji vljepa_jax/data/world/assets/
RUN touch vljepa_jax/__init__.py && pip install -c locks/main.txt -e .

# NVIDIA GPUs: CUDA comes with JAX, the driver with the host.
FROM base AS cuda
RUN pip install -c locks/cuda.txt "jax[cuda13]"
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    XLA_FLAGS=--xla_gpu_enable_latency_hiding_scheduler=true \
    XLA_PYTHON_CLIENT_MEM_FRACTION=0.9 NCCL_DEBUG=WARN
COPY . .

FROM base AS tpu
RUN pip install -c locks/main.txt "jax[tpu]"
COPY . .

FROM base AS cpu
COPY . .
