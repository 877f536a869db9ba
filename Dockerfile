# Two stages, so that the image contains no build tools and no package cache.
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /app
RUN python -m venv /venv
COPY requirements.txt .
RUN /venv/bin/pip install --no-cache-dir --require-hashes --no-deps -r requirements.txt

FROM python:3.11.14-slim-bookworm
LABEL org.opencontainers.image.title="AI gateway" \
      org.opencontainers.image.version="0.1.0"
# The owner of /data. A host folder that is mounted there must belong to this uid.
RUN useradd --system --uid 10001 --home-dir /app gateway \
    && install -d -m 700 -o gateway -g gateway /data
WORKDIR /app
COPY --from=build /venv /venv
COPY manage.py requirements.txt ./
COPY scripts scripts
COPY server server
COPY templates templates
COPY common common
COPY channels channels
COPY billing billing
COPY conversations conversations
COPY dashboard dashboard
COPY gateway gateway
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 PORT=8000 DATA_DIR=/data
USER gateway
VOLUME /data
EXPOSE 8000
# On SIGTERM the server finishes calls in flight; give it the time (docker stop --time 330).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD \
    ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/healthz', timeout=2)"]
CMD ["python", "scripts/serve.py"]
