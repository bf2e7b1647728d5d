# The image that serves: `docker run -p 50051:50051 pullcord serve --listen 0.0.0.0:50051 --insecure`
# starts the demo for everybody who reaches the port, and
# `docker run -v ./app.py:/app/app.py … pullcord serve app:server …` one's own runnables.
ARG PYTHON=python:3.12-slim

# Builds the environment with all that serving needs; pip stays behind in this stage.
FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/pullcord
WORKDIR /src
# The packages first: this layer changes with the lock only.
COPY requirements-runtime.lock ./
RUN pip --python /opt/pullcord install --require-hashes --requirement requirements-runtime.lock
COPY pyproject.toml LICENSE README.md* ./
COPY server server
RUN pip --python /opt/pullcord install --no-deps .

FROM ${PYTHON}
# A fixed number, so that a cluster can check that the user is not root.
RUN groupadd --gid 10001 pullcord \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin pullcord
COPY --from=build /opt/pullcord /opt/pullcord
ENV PATH=/opt/pullcord/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
EXPOSE 50051
# Fails while the server drains, too: it then takes no new runs.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 \
    CMD ["python", "-m", "pullcord.probe"]
ENTRYPOINT ["pullcord"]
# Served on the container's own loopback, until it is said how others may reach it:
# `serve app:server --listen 0.0.0.0:50051` with a certificate and callers (docs/security.md), where
# PULLCORD_PROBE=tls://127.0.0.1:50051 is what the health check asks; or with `--insecure`.
CMD ["serve"]
