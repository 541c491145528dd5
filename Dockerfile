# docker build -t geodiff .                                      CPU
# docker build -t geodiff:cuda --build-arg TORCH_INDEX_URL=https://download.pytorch.org/whl/cu130 .
# docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" geodiff fill scene.tif filled.tif
#
# --user makes the products yours: the image's own user may not write into your folder. HOME is /tmp, which anyone may use.
# BASE_IMAGE is any image with Python 3.11 or newer and venv; torch's CUDA wheels bring their own CUDA libraries.
# TORCH_INDEX_URL is the index of the torch build; empty takes torch from the same index as everything else.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY geodiff ./geodiff
COPY flows ./flows
RUN python3 -m venv /opt/geodiff
RUN /opt/geodiff/bin/pip install --no-cache-dir --disable-pip-version-check \
        ${TORCH_INDEX_URL:+--extra-index-url "${TORCH_INDEX_URL}"} \
        -c constraints.txt ".[flows,s3]"

FROM ${BASE_IMAGE} AS run
LABEL org.opencontainers.image.title="geodiff" \
      org.opencontainers.image.licenses="Apache-2.0"
# GDAL inside rasterio's wheel needs libexpat, which slim images leave out.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libexpat1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/geodiff /opt/geodiff
# One thread a process keeps products bit-identical; caches go where a user without a home may write.
ENV PATH=/opt/geodiff/bin:$PATH \
    OMP_NUM_THREADS=1 \
    HOME=/tmp \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["geodiff"]
CMD ["--help"]
