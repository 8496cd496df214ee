# The current LTS of Node on Alpine: its busybox has the wget of the health check, which distroless images lack.
FROM node:26-alpine AS build
WORKDIR /app
COPY package.json package-lock.json ./
# Nothing that is built here needs the scripts of packages.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY build.mjs tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN npm run build
# Traces need OpenTelemetry, which takes 80 MB: docker build --build-arg TRACING=true
ARG TRACING=false
RUN npm pkg delete peerDependencies peerDependenciesMeta \
  && if [ "$TRACING" = true ]; then \
  locked="require('./package-lock.json').packages['node_modules/@opentelemetry/sdk-node'].version" \
  && npm install --save-prod --omit=dev --ignore-scripts --no-audit --no-fund "@opentelemetry/sdk-node@$(node -p "$locked")"; \
  fi \
  && npm prune --omit=dev --no-audit --no-fund
# `npm sbom --omit=dev` leaves out what development needs as well, such as ajv. So development is taken out first.
RUN npm pkg delete devDependencies && npm sbom --sbom-format=cyclonedx > sbom.json

FROM node:26-alpine
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Causeway" \
  org.opencontainers.image.description="HTTP-to-MQTT bridge" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="$VERSION" \
  org.opencontainers.image.revision="$REVISION"
# Nothing is installed where it runs.
RUN rm -rf /usr/local/lib/node_modules /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack /opt/yarn*
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json /app/sbom.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY LICENSE deploy/healthcheck ./
# By its number, so that Kubernetes can see that it is not root. Nothing in the image belongs to it or is written to.
USER 1000:1000
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["/app/healthcheck"]
# Process 1 is Node itself, which handles SIGTERM and starts no other process.
CMD ["node", "dist/main.js"]
