# One image, its role chosen by the command: serve, worker, migrate.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements.runtime.lock ./
RUN python3 -m venv --without-pip /venv \
 && python3 -m pip --python /venv/bin/python install --require-hashes -r requirements.runtime.lock

FROM ${PYTHON_IMAGE}
RUN useradd --uid 1000 --create-home --shell /usr/sbin/nologin holdfast
COPY --from=build /venv /venv
WORKDIR /app
COPY alembic/ alembic/
COPY schema/ schema/
COPY workers/ workers/
# Without service/local: see .dockerignore.
COPY service/ service/
# hadolint ignore=DL3064  # it says that no token is to be found by itself, and holds none
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    HF_HUB_DISABLE_IMPLICIT_TOKEN=1
USER 1000:1000
EXPOSE 8765
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve", "--host", "0.0.0.0"]
