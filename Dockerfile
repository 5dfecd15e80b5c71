# A live server. For CPUs:
#   docker build -t vivavoz .
# For NVIDIA GPUs (start with --gpus all; the CUDA libraries come with torch):
#   docker build -t vivavoz:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
FROM python:3.11-slim-bookworm

ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# g++ is for the compiled runtime, espeak-ng speaks texts.
RUN apt-get update \
    && apt-get install -y --no-install-recommends espeak-ng g++ \
    && rm -rf /var/lib/apt/lists/*

RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" "$TORCH"

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir '.[serve]'

RUN useradd --create-home vivavoz
USER vivavoz
WORKDIR /home/vivavoz

ENV VIVAVOZ_HOST=0.0.0.0
EXPOSE 8000
HEALTHCHECK --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz')"]
ENTRYPOINT ["vivavoz", "serve"]
