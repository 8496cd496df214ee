"""pip install httpx-sse: reads the events; coming back is up to you."""

import random
import sys
import time

import httpx
from httpx_sse import connect_sse

url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080/subscribe?topic=home/%23"
last_event_id = ""

# A stream is silent for 15 seconds at most (CAUSEWAY_STREAM_HEARTBEAT_MS). The default of 5 seconds would end it.
with httpx.Client(timeout=httpx.Timeout(10, read=45)) as client:
    while True:
        try:
            headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
            with connect_sse(client, "GET", url, headers=headers) as source:
                status = source.response.status_code
                if status == 204 or 400 <= status < 500:
                    print(f"stopped: {status}", flush=True)
                    break
                source.response.raise_for_status()
                for event in source.iter_sse():
                    last_event_id = event.id or last_event_id
                    print(event.event, event.data, flush=True)
        except httpx.HTTPError:
            pass
        time.sleep(1 + random.random())
