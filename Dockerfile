FROM node:24-alpine AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN npm run build && npm prune --omit=dev

FROM node:24-alpine
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
USER node
EXPOSE 8080
# Liveness only, not /readyz: restarting the container does not help when the broker is away.
# The check uses plain HTTP without credentials. With CAUSEWAY_AUTH or HTTPS, set CAUSEWAY_ADMIN_PORT too, or it fails.
HEALTHCHECK --interval=10s --timeout=3s CMD ["node", "-e", "const port = process.env.CAUSEWAY_ADMIN_PORT || process.env.CAUSEWAY_HTTP_PORT || 8080; fetch(`http://127.0.0.1:${port}/livez`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "dist/main.js"]
