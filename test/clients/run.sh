#!/usr/bin/env bash
# Fetches what other registries have, runs every client against real bridges, and writes the table of docs/clients.md.
# Without arguments all clients, else those that are named.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ -d test/clients/node_modules ] || npm run --silent clients:install
cache=test/clients/node_modules/.cache
mkdir -p "$cache"
if [ ! -x "$cache/python/bin/python" ]; then
  python3 -m venv "$cache/python"
  "$cache/python/bin/pip" install --quiet --requirement test/clients/requirements.txt
fi
npm run --silent build
npx tsx test/clients/main.ts "$@"
npm run --silent docs
npx vitest run --project long test/clients/generated.long.test.ts
