"""Uses a bridge by a client in Python that is generated from openapi.yaml, and prints what came of it."""

import io
import json
import sys

from causeway_client import Client
from causeway_client.api.publish import publish, publish_batch
from causeway_client.api.retained import delete_retained, read_retained
from causeway_client.api.sessions import list_sessions
from causeway_client.models import BatchFailed, Message
from causeway_client.types import File

# With this header, one exact topic is answered with an array too. Without it, the payload itself would be the answer.
client = Client(base_url=sys.argv[1], headers={"Accept": "application/json"})
message = Message.from_dict({"topic": "home/temp", "payload": {"celsius": 21.5}, "retain": True})
text = File(payload=io.BytesIO(b"a text that is no JSON"))

published = publish.sync(client=client, body=message)
raw = publish.sync(client=client, body=text, topic="home/raw", retain=True)
batch = publish_batch.sync(client=client, body=[message, Message(topic="not/#")])
everything = read_retained.sync(client=client, topic="home/#")
one = read_retained.sync(client=client, topic="home/raw")
payload = Client(base_url=sys.argv[1]).get_httpx_client().get("/retained", params={"topic": "home/raw"})
deleted = delete_retained.sync(client=client, topic="home/temp")
wrong = publish.sync(client=client, body=Message(topic="not/#"))
sessions = list_sessions.sync(client=client)

print(
    json.dumps(
        {
            "published": published.topic,
            "raw": raw.qos,
            "batch": [
                each.problem.code if isinstance(each, BatchFailed) else f"{each.status} {each.topic}" for each in batch
            ],
            "all": sorted(each.topic for each in everything),
            "one": [each.topic for each in one],
            "bytes": payload.text,
            "deleted": deleted.topic,
            "wrong": [wrong.code, wrong.errors[0].pointer],
            "sessions": [each.name for each in sessions],
        }
    )
)
