"""Prints what arrives on the topic `test`, a line each: paho_subscriber.py PORT COUNT"""
import sys

import paho.mqtt.client as mqtt

port, left = int(sys.argv[1]), int(sys.argv[2])


def on_connect(client, _userdata, _flags, _code):
    client.subscribe("test", qos=1)


def on_message(client, _userdata, message):
    global left
    print(message.payload.decode(), flush=True)
    left -= 1
    if left == 0:
        client.disconnect()


client = mqtt.Client()
client.on_connect = on_connect
client.on_subscribe = lambda *_: print("subscribed", flush=True)
client.on_message = on_message
client.connect("127.0.0.1", port)
client.loop_forever()
