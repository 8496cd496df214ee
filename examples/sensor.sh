#!/usr/bin/env bash
# A sensor: publishes a value every few seconds, as a retained message. Needs curl.
#
#   ./sensor.sh http://localhost:8080 home/temp 5
#
# If BEARER_TOKEN is set, it is sent with every request.
set -uo pipefail
base=$1 topic=$2 seconds=${3:-5}

# Put your own sensor here.
measure() { awk '{ printf "%.1f\n", $1 * 10 }' /proc/loadavg; }

# A value of five seconds ago is of no use later, so it is not kept: one try, of a few seconds at most. `expiry` would
# say the same to the broker (MQTT 5 only).
publish() {
  local url="$base/publish?retain=true&topic=$topic"
  if [ -z "${BEARER_TOKEN:-}" ]; then curl -sS --fail-with-body -m 4 -o /dev/null -d "$1" "$url"
  else curl -sS --fail-with-body -m 4 -o /dev/null -H @<(echo "Authorization: Bearer $BEARER_TOKEN") -d "$1" "$url"; fi
}

while :; do
  value=$(measure)
  if publish "$value"; then echo "$topic $value"; else echo "$topic $value was not published" >&2; fi
  sleep "$seconds"
done
