"""An endpoint for pushes: verifies the signature, processes each message once, and answers 204.

Usage: WEBHOOK_SECRET=whsec_… python3 endpoint.py [PORT]
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.environ["WEBHOOK_SECRET"]
if not SECRET.startswith("whsec_"):
    sys.exit("WEBHOOK_SECRET has to begin with whsec_")
KEY = base64.b64decode(SECRET.removeprefix("whsec_"))
BODY_MAX = 10 * 1024 * 1024

# Ids of the latest requests: the same message may come twice. A real endpoint keeps them with its data.
seen = OrderedDict()


def is_signed(headers, body):
    identifier, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    # Somebody may have recorded an old request.
    if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > 300:
        return False
    signed = f"{identifier}.{timestamp}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    # There are several while the secret is changed.
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(each.encode(), expected.encode()) for each in given)


def process(message):
    print(message["topic"], message["payload"], flush=True)


class Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        if length > BODY_MAX:
            self.close_connection = True
            return self.answer(413)
        body = self.rfile.read(length)
        if not is_signed(self.headers, body):
            return self.answer(401)
        try:
            identifier = self.headers["webhook-id"]
            if identifier not in seen:
                messages = json.loads(body)
                for message in messages if isinstance(messages, list) else [messages]:
                    process(message)
                seen[identifier] = True
                if len(seen) > 10_000:
                    seen.popitem(last=False)
            self.answer(204)
        except Exception as error:  # Causeway sends the message again after a 500.
            print(repr(error), file=sys.stderr)
            self.answer(500)

    def answer(self, status):
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 9000), Endpoint)
print(f"listening on http://127.0.0.1:{server.server_port}", file=sys.stderr, flush=True)
server.serve_forever()
