#!/usr/bin/env bash
# Processes the messages of a durable session, each at least once. Needs curl and jq.
#
#   ./consumer.sh http://localhost:8080 billing 'orders/#'
#
# If BEARER_TOKEN is set, it is sent with every request.
set -uo pipefail
base=$1 name=$2 filter=$3 last_event_id='' session=''

# The token goes by a file descriptor: the arguments of a program can be seen by all users of the machine.
with_token() {
  if [ -z "${BEARER_TOKEN:-}" ]; then curl "$@"; else curl -H @<(echo "authorization: Bearer $BEARER_TOKEN") "$@"; fi
}

# Put your own code here. If it fails, the message stays unacknowledged and is delivered again.
process() { jq -r '"\(.topic) \(.payload)\(if .redelivered then " (again)" else "" end)"' <<<"$1"; }

# Acknowledges an event. If this fails, reconnecting with its id as Last-Event-ID acknowledges it instead.
acknowledge() {
  with_token -sSf -o /dev/null -H 'content-type: application/json' -d "{\"id\":\"$1\"}" "$base/sessions/$session/ack"
}

while :; do
  while IFS= read -r line; do
    [ -n "$line" ] || continue # Before the line that curl adds at the end.
    event=$(jq -r '.event // "problem"' <<<"$line") data=$(jq -c '.data' <<<"$line")
    case $event in
      session) session=$(jq -r .id <<<"$data") ;;
      gap) echo "messages may be missing: $(jq -r .reason <<<"$data")" >&2 ;;
      status) [ "$(jq 'has("session")' <<<"$data")" = false ] || exit 0 ;; # Taken over, or deleted.
      message) process "$data" || break ;;
      end) [ "$data" != 204 ] || exit 0 ;; # Another reader has the session.
      problem)
        jq -r .detail <<<"$line" >&2
        [ "$(jq .retryable <<<"$line")" = true ] || exit 1
        ;;
    esac
    # Also remember the id of the `session` event. A reconnect without any Last-Event-ID would not be told if the
    # broker has lost the session meanwhile, and would take the session from another reader.
    id=$(jq -r '.id // empty' <<<"$line")
    last_event_id=${id:-$last_event_id}
    [ "$event" != message ] || acknowledge "$id" || break
  done < <(with_token -sSN -G "$base/subscribe" --data-urlencode "topic=$filter" --data-urlencode "session=$name" \
    -d ack=explicit -H 'accept: application/x-ndjson' ${last_event_id:+-H "last-event-id: $last_event_id"} \
    -w '\n{"event":"end","data":%{http_code}}\n')
  sleep 0.5
done
