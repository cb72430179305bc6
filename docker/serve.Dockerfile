# Builds from the repository: docker build -f docker/serve.Dockerfile -t falconet-serve .
# Runs: docker run --rm -p 8000:8000 -v "$PWD/exported:/models:ro" falconet-serve /models/model.onnx
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src ./src
RUN python -m venv /opt/falconet && /opt/falconet/bin/pip install --no-cache-dir '.[serve]'

FROM python:3.12-slim
COPY --from=build /opt/falconet /opt/falconet
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin falconet
USER 10001
# Published weights are kept in the cache; mount a volume there to fetch them once.
ENV PATH=/opt/falconet/bin:$PATH PYTHONDONTWRITEBYTECODE=1 XDG_CACHE_HOME=/tmp
EXPOSE 8000
# The exit code of a process that SIGTERM stops is 0, once requests under way are answered.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["falconet", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["/models/model.onnx"]
