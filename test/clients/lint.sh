#!/usr/bin/env bash
# Two public linters over the OpenAPI document. A warning of either is a failure.
set -euo pipefail
cd "$(dirname "$0")"
[ -d node_modules ] || { echo 'run npm run clients:install first' >&2; exit 1; }
export REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true
npx --no-install redocly lint --extends=recommended-strict ../../openapi/openapi.yaml
npx --no-install spectral lint --ruleset spectral.yaml --fail-severity=hint ../../openapi/openapi.yaml
