# One image for every process of the project: docker-compose.yml says which one a container runs.

FROM python:3.11-slim AS build
RUN pip install --no-cache-dir "uv==0.13.9"
WORKDIR /app
# Compiled here: who runs it may write nothing there, and each start would compile it all again, in three times the time.
ENV UV_COMPILE_BYTECODE=1
# The libraries first: they change less often than the code, and this layer is kept.
COPY pyproject.toml uv.lock ./
COPY deploy/application deploy/application
RUN uv sync --frozen --no-default-groups --all-packages --extra email --extra inventory --extra file --extra report --extra uvloop --no-install-workspace
COPY README.md LICENSE ./
COPY schemas schemas
COPY streams streams
COPY processors processors
COPY observability observability
COPY examples examples
RUN uv sync --frozen --no-default-groups --extra email --extra inventory --extra file --extra report --extra uvloop --all-packages --no-editable

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home streams \
    && install -d -o streams -m 0700 /database /files
COPY --from=build /app/.venv /app/.venv
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /tmp
USER streams
CMD ["streams", "--help"]
