# CPU:  docker build --tag augscale:cpu .
# CUDA: docker build --tag augscale:cuda --build-arg EXTRA=gpu --build-arg TORCH_INDEX=https://pypi.org/simple .
# The wheels of torch on PyPI bring their CUDA libraries along, so the host needs the NVIDIA driver and its container toolkit only.
FROM python:3.12-slim-bookworm

ARG EXTRA=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY augscale ./augscale
COPY studies ./studies
RUN pip install --no-cache-dir --extra-index-url "${TORCH_INDEX}" ".[${EXTRA}]" \
    && useradd --create-home augscale

ENV AUGSCALE_CACHE=/workspace/.augscale-cache
WORKDIR /workspace
RUN chown augscale /workspace
USER augscale
ENTRYPOINT ["augscale"]
CMD ["--help"]
