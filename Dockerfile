# The sidecar as an image: `tail` by default, and every other command. No Postgres inside, and none is needed to build.
#
#   docker build --tag agent-trace-sidecar .
#   docker run --read-only --volume logs:/var/log/agent-trace --tmpfs /var/lib/agent-trace \
#       --env AGENT_TRACE_DATABASE_URL agent-trace-sidecar
#
# BASE may be any image with Python 3.11 or later, pip and venv.
ARG BASE=python:3.13-slim

# Wheels of everything, with the hashes of the lock; nothing is fetched after this stage.
FROM ${BASE} AS wheelhouse
COPY deploy/requirements.txt /src/
RUN python3 -m pip wheel --no-cache-dir --require-hashes --no-deps --only-binary :all: \
    --requirement /src/requirements.txt --wheel-dir /wheels

# A virtual environment of the sidecar alone: no pip, no build tool.
FROM wheelhouse AS build
RUN python3 -m venv /tmp/builder \
    && /tmp/builder/bin/pip install --no-cache-dir --no-index --find-links /wheels hatchling
COPY . /src
RUN /tmp/builder/bin/pip wheel --no-cache-dir --no-deps --no-index --no-build-isolation --wheel-dir /wheels /src \
    && python3 -m venv --without-pip /opt/agent-trace-sidecar \
    && /tmp/builder/bin/pip --python /opt/agent-trace-sidecar/bin/python install \
        --no-cache-dir --no-index --find-links /wheels 'agent-trace-sidecar[otlp]'

FROM ${BASE}
LABEL org.opencontainers.image.title="agent-trace-sidecar" \
      org.opencontainers.image.description="Records OpenCode sessions as Agent Trace records in Postgres" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/agent-trace-sidecar /opt/agent-trace-sidecar
# The state folder holds nothing that must survive a container which tails: a cache of the redaction rules. Any user that the
# container runs as may write there, also where the tmpfs takes the folder's mode.
RUN mkdir -m 1777 /var/lib/agent-trace
ENV PATH=/opt/agent-trace-sidecar/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    AGENT_TRACE_STATE_DIR=/var/lib/agent-trace \
    AGENT_TRACE_HTTP=127.0.0.1:9464
# Numeric, so that Kubernetes can check that it is not root; run it as the user whose OpenCode writes the logs.
USER 65532:65532
STOPSIGNAL SIGTERM
# Checks the process, not the database: an outage is no reason to restart a container.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s \
    CMD ["/opt/agent-trace-sidecar/bin/python", "-I", "-m", "agent_trace_sidecar.telemetry.livez"]
ENTRYPOINT ["agent-trace-sidecar"]
CMD ["tail", "/var/log/agent-trace"]
