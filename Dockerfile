# The projector's worker: docker build -t eventckpt-projector:0.1.0 .
# Settings come from the environment: EVENTCKPT_STORE, AZURE_COSMOS_DATABASE_NAME, AZURE_COSMOS_CONTAINER_NAME, and
# AZURE_COSMOS_KEY or an identity.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY eventckpt eventckpt
COPY projections projections
RUN pip install --no-cache-dir --prefix=/install '.[cosmos,projector]'

FROM python:3.13-slim
COPY --from=build /install /usr/local
RUN useradd --uid 10001 projector
USER 10001
EXPOSE 9464
# As the first process it gets SIGTERM itself: no shell in between.
ENTRYPOINT ["eventckpt-projector"]
CMD ["run", "--host", "0.0.0.0"]
