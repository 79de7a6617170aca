# One image for all processes; the command says which: `operator` or `extender`.
#
#   docker build --tag stowage:dev .
#   docker build --build-arg BASE_IMAGE=registry.example.com/python:3.13-slim --tag stowage:dev .

ARG BASE_IMAGE=python:3.13-slim

# hadolint ignore=DL3006  # the base image is an argument, with its tag
FROM ${BASE_IMAGE} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
COPY requirements/runtime.txt requirements/build.txt requirements/
# wheels only: nothing is compiled, so no compiler is needed and what runs is what the hashes name
RUN python -m venv --without-pip /opt/stowage \
 && pip --python /opt/stowage/bin/python install --require-hashes --only-binary :all: --requirement requirements/runtime.txt \
 && pip install --require-hashes --only-binary :all: --requirement requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
COPY scheduler_plugin scheduler_plugin
RUN pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /tmp/wheels . \
 && pip --python /opt/stowage/bin/python install --no-deps --no-index /tmp/wheels/*.whl
# tests of libraries: a tenth of the image
RUN find /opt/stowage -type d -name tests -path '*/site-packages/*' -prune -exec rm -rf {} +

# hadolint ignore=DL3006
FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Stowage" \
      org.opencontainers.image.description="Kubernetes operator and scheduler extension that packs, heals and scales AI workloads" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/stowage /opt/stowage
# the root file system may be read-only: nothing is written but to /tmp, which the pod brings
ENV PATH=/opt/stowage/bin:$PATH \
    HOME=/tmp \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["stowage"]
CMD ["operator"]
