"""Publishes JSON to the topic `test`: paho_publisher.py PORT COUNT"""
import json
import sys

import paho.mqtt.client as mqtt

port, count = int(sys.argv[1]), int(sys.argv[2])
client = mqtt.Client()
client.connect("127.0.0.1", port)
client.loop_start()
for number in range(count):
    client.publish("test", json.dumps({"number": number, "from": "paho"}), qos=1).wait_for_publish()
client.disconnect()
