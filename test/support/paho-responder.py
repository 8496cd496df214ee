"""Answers MQTT 5 requests on a topic with their payload in capitals.

Arguments: port, topic. Prints "ready" when it has subscribed.
"""
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


def on_message(client, _userdata, message):
    reply = Properties(PacketTypes.PUBLISH)
    reply.CorrelationData = message.properties.CorrelationData
    reply.ContentType = "text/x-shout"
    reply.UserProperty = getattr(message.properties, "UserProperty", []) + [("by", "paho")]
    client.publish(message.properties.ResponseTopic, message.payload.decode().upper().encode(), qos=1, properties=reply)


client = mqtt.Client(protocol=mqtt.MQTTv5)
client.on_message = on_message
client.on_connect = lambda *_: client.subscribe(sys.argv[2], qos=1)
client.on_subscribe = lambda *_: print("ready", flush=True)
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_forever()
