# The gateway, the controller and the agent, without torch or vLLM, for engines that run elsewhere:
#
#   docker build -t turnout-gateway .
#   docker run -p 8080:8080 -v turnout:/var/lib/turnout -e TURNOUT_ADMIN_KEY=… \
#       turnout-gateway --engine-url http://ENGINE:8000
#
# It refuses to start without a key, because it listens on every address. Adapters lie under
# /var/lib/turnout/adapters; the engines must be able to read that folder too (see deploy/compose).
# It runs with a read-only root file system: what it writes is in /var/lib/turnout and /tmp.
# With PostgreSQL and S3, as deploy/compose and deploy/kubernetes need it: --build-arg LOCK=fleet

FROM python:3.11-slim AS build
RUN python -m venv /opt/turnout
ENV PATH=/opt/turnout/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
ARG LOCK=gateway
WORKDIR /src
COPY requirements/${LOCK}.txt requirements/${LOCK}.txt
RUN pip install --no-deps -r requirements/${LOCK}.txt
COPY pyproject.toml README.md LICENSE ./
COPY adapters adapters
COPY gateway gateway
RUN pip install --no-deps --no-build-isolation .

FROM python:3.11-slim
ENV PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --uid 10001 --home-dir /var/lib/turnout --create-home turnout \
    && install -d -o turnout -g turnout /var/lib/turnout/adapters
COPY --from=build /opt/turnout /opt/turnout
ENV PATH=/opt/turnout/bin:$PATH PYTHONUNBUFFERED=1 TURNOUT_STATE_DIR=/var/lib/turnout
USER turnout
WORKDIR /var/lib/turnout
VOLUME /var/lib/turnout
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
# The example adapters were trained on one build of the default base model; they are not in the image.
ENTRYPOINT ["turnout", "serve", "--host", "0.0.0.0", "--no-examples"]
