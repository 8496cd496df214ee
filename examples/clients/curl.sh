#!/usr/bin/env bash
# curl and jq: lines of JSON are easier to read in a shell than server-sent events. Coming back is up to you.
url=${1:-http://localhost:8080/subscribe?topic=home/%23}
last=

# No --retry: curl would ask again without the id of the last event.
while true; do
  while read -r line; do
    case $line in
      '{'*) ;;
      'status '*) status=${line#status }; continue ;;
      *) continue ;;
    esac
    id=$(jq -r '.id // empty' <<<"$line")
    [ -z "$id" ] || last=$id
    jq -r 'select(.data) | "\(.event) \(.data | tojson)"' <<<"$line"
  done < <(curl -sN -H 'Accept: application/x-ndjson' ${last:+-H "Last-Event-ID: $last"} \
    -w '\nstatus %{http_code}\n' "$url")
  case $status in
    204 | 4??) echo "stopped: $status"; exit ;;
  esac
  sleep $((1 + RANDOM % 2))
done
