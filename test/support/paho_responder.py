"""Answers each message on `q/#` with its payload in capitals: paho_responder.py PORT"""
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


def on_message(client, _userdata, message):
    properties = Properties(PacketTypes.PUBLISH)
    properties.CorrelationData = message.properties.CorrelationData
    properties.ContentType = "text/x-answer"
    properties.UserProperty = ("asked", message.topic)
    client.publish(message.properties.ResponseTopic, message.payload.upper(), qos=1, properties=properties)


client = mqtt.Client(protocol=mqtt.MQTTv5)
client.on_message = on_message
client.on_subscribe = lambda *_: print("ready", flush=True)
client.connect("127.0.0.1", int(sys.argv[1]))
client.subscribe("q/#", qos=1)
client.loop_forever()
