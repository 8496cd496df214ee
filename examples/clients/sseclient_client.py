"""pip install sseclient-py requests: reads the events of any response; coming back is up to you."""

import random
import sys
import time

import requests
import sseclient

url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080/subscribe?topic=home/%23"
last_event_id = ""

while True:
    try:
        headers = {"Accept": "text/event-stream"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        # A stream is silent for 15 seconds at most (CAUSEWAY_STREAM_HEARTBEAT_MS).
        response = requests.get(url, headers=headers, stream=True, timeout=(10, 45))
        if response.status_code == 204 or 400 <= response.status_code < 500:
            print(f"stopped: {response.status_code}", flush=True)
            break
        response.raise_for_status()
        # Not the response itself: that would hand on single bytes.
        for event in sseclient.SSEClient(response.iter_content(chunk_size=None)).events():
            last_event_id = event.id or last_event_id
            print(event.event, event.data, flush=True)
    except requests.RequestException:
        pass
    time.sleep(1 + random.random())
