"""Processes the messages of a durable session, each at least once. Python 3.9 or later, standard library only.

    python3 consumer.py http://localhost:8080 billing 'orders/#'

If BEARER_TOKEN is set, it is sent with every request.
"""
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

base, name, topic_filter = sys.argv[1:4]
url = f"{base}/subscribe?" + urllib.parse.urlencode({"session": name, "topic": topic_filter, "ack": "explicit"})

credentials = {"Authorization": f"Bearer {os.environ['BEARER_TOKEN']}"} if "BEARER_TOKEN" in os.environ else {}


def process(message):
    """Put your own code here. If it raises, the message stays unacknowledged and is delivered again."""
    print(message["topic"], message["payload"], "(again)" if message.get("redelivered") else "", flush=True)


def acknowledge(session, event_id):
    """Acknowledges an event. If this fails, reconnecting with its id as Last-Event-ID acknowledges it instead."""
    body = json.dumps({"id": event_id}).encode()
    headers = {"Content-Type": "application/json", **credentials}
    request = urllib.request.Request(f"{base}/sessions/{session}/ack", body, headers)
    try:
        urllib.request.urlopen(request, timeout=30).close()
    except urllib.error.HTTPError as error:
        raise ConnectionError(f"not acknowledged: {error.read().decode()}") from error


last_event_id = None
wait = 0.5
while True:
    headers = {"Accept": "application/x-ndjson", **credentials}
    if last_event_id:
        headers["Last-Event-ID"] = last_event_id
    try:
        # A heartbeat comes every 15 seconds. If nothing comes for 60 seconds, the connection is dead: reconnect.
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as stream:
            if stream.status == 204:  # Another reader has the session.
                sys.exit(0)
            wait = 0.5
            session = None
            for line in stream:
                event = json.loads(line)
                data = event.get("data")  # A heartbeat has none.
                if event["event"] == "session":
                    session = data["id"]
                elif event["event"] == "gap":
                    print("messages may be missing:", data["reason"], file=sys.stderr)
                elif event["event"] == "status" and "session" in data:  # Taken over, or deleted.
                    sys.exit(0)
                elif event["event"] == "message":
                    process(data)
                # Also remember the id of the `session` event. A reconnect without any Last-Event-ID would not be told
                # if the broker has lost the session meanwhile, and would take the session from another reader.
                last_event_id = event.get("id", last_event_id)
                if event["event"] == "message":
                    acknowledge(session, last_event_id)
    except urllib.error.HTTPError as error:
        is_problem = error.headers.get_content_type() == "application/problem+json"  # An error of a proxy is not.
        problem = json.load(error) if is_problem else {"detail": str(error), "retryable": True}
        print(problem["detail"], file=sys.stderr)
        if not problem["retryable"]:
            sys.exit(1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"{error}; trying again", file=sys.stderr)
    time.sleep(wait)
    wait = min(wait * 2, 10)
