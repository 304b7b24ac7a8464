# R-FCN, Deep Feature Flow and FGFA on the CPU. docs/install.md says how far it has been tried.
#   docker build -t flow-vod . && docker run --rm -v "$PWD/output:/app/output" flow-vod python tools/doctor.py
# For a GPU: begin from an image with the CUDA toolkit of torch's CUDA version (nvidia/cuda:13.0.2-devel-ubuntu24.04, with
# python3-venv and python3-dev), --build-arg CPU_ONLY=, FORCE_CUDA=1 and TORCH_CUDA_ARCH_LIST in the RUN of setup_env.sh,
# and start with `docker run --gpus all --shm-size 8g`: the readers of training hand batches over in shared memory.
FROM python:3.12-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY . .
# 1: torch without CUDA, from PyTorch's own index. Empty: torch from PyPI, with 6 GB of CUDA libraries.
ARG CPU_ONLY=1
RUN PIP_NO_CACHE_DIR=1 bash tools/setup_env.sh
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1
CMD ["python", "tools/doctor.py"]
