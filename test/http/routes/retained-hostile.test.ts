import { once } from 'node:events'
import { get as httpGet, type IncomingMessage } from 'node:http'
import type { IPublishPacket } from 'mqtt-packet'
import { describe, expect, test } from 'vitest'
import { type Bridge, startBridge } from '../../support/bridge.ts'
import { get } from '../../support/http.ts'
import { startScriptedBroker } from '../../support/scripted-broker.ts'

/**
 * A bridge with a scripted broker, which delivers any properties. Mosquitto would close the connection over control
 * characters.
 */
async function bridgeWith(
  properties: NonNullable<IPublishPacket['properties']>,
  payload = '<script>alert(1)</script>',
): Promise<Bridge> {
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd === 'unsubscribe') peer.send({ cmd: 'unsuback', messageId: packet.messageId!, granted: [0] })
    if (packet.cmd !== 'subscribe') return packet.cmd === 'unsubscribe'
    peer.send(
      { cmd: 'suback', messageId: packet.messageId!, granted: [1] },
      { cmd: 'publish', topic: 'a', payload, qos: 1, messageId: 1, retain: true, dup: false, properties },
    )
    return true
  })
  return startBridge({ MQTT_URL: broker.url })
}

/** The raw headers: names and values in turn. */
async function rawHeaders(bridge: Bridge): Promise<string[]> {
  const [response] = (await once(httpGet(`${bridge.url}/retained?topic=a`, { agent: false }), 'response')) as [
    IncomingMessage,
  ]
  response.resume()
  expect(response.statusCode).toBe(200)
  return response.rawHeaders
}

/*
 * Anyone who may publish to a topic chooses the properties of its retained message, and others fetch it from this
 * origin with browsers and programs. If a property became a header unchanged, CR and LF in it could start a forged
 * header (Set-Cookie) or a second body. If browsers trusted the content type, HTML would run as a page of this
 * origin and could use its cookies.
 */
describe('a retained message of somebody hostile', () => {
  test.each([
    ['a header of its own', 'text/html\r\nSet-Cookie: a=b'],
    ['a line break', 'text/html\n;x'],
    ['a body', 'text/html;\r\n\r\n<html>'],
    ['what is not ASCII', 'text/html; a="ü"'],
    ['half a type', 'html'],
    ['nothing', ''],
    ['a leading space', ' text/html'],
    ['a type without end', `text/${'x'.repeat(20_000)}`],
  ])('cannot put %s into the content type', async (_what, contentType) => {
    const bridge = await bridgeWith({ contentType })
    const headers = await rawHeaders(bridge)
    expect(headers.map((name) => name.toLowerCase())).not.toContain('set-cookie')
    expect(headers[headers.findIndex((name) => name.toLowerCase() === 'content-type') + 1]).toBe(
      'application/octet-stream',
    )
  })

  test('cannot break out of the other headers', async () => {
    const evil = 'x\r\nSet-Cookie: a=b\r\n\r\n<script>'
    const bridge = await bridgeWith({
      userProperties: { [evil]: evil, 'set-cookie': evil },
      correlationData: Buffer.from(evil),
    })
    const headers = await rawHeaders(bridge)
    expect(headers.map((name) => name.toLowerCase())).not.toContain('set-cookie')
    expect(headers.join('')).not.toMatch(/[^\x20-\x7e]/)
    const { headers: parsed } = await get(bridge, '/retained?topic=a')
    expect(JSON.parse(decodeURIComponent(parsed.get('mqtt-user-properties')!))).toMatchObject({ [evil]: evil })
    expect(Buffer.from(parsed.get('mqtt-correlation-data')!, 'base64').toString()).toBe(evil)
  })

  test('cannot make the answer unreadable by the length of its properties', async () => {
    const userProperties = Object.fromEntries(
      Array.from({ length: 100 }, (_, index) => [`name-${index}`, 'x'.repeat(1000)]),
    )
    const bridge = await bridgeWith({
      userProperties,
      correlationData: Buffer.alloc(60_000),
      responseTopic: 'r/'.repeat(90),
    })
    const headers = await rawHeaders(bridge)
    expect(headers.filter((name) => name.toLowerCase().startsWith('mqtt-')).sort()).toEqual([
      'mqtt-qos',
      'mqtt-response-topic',
    ])
    const [message] = (await get(bridge, '/retained?topic=a', { accept: 'application/json' })).body
    expect(message.properties.userProperties).toEqual(userProperties)
  })

  test('does not run as a page of this origin', async () => {
    const bridge = await bridgeWith({ contentType: 'text/html' })
    const { headers, body } = await get(bridge, '/retained?topic=a')
    expect(body).toBe('<script>alert(1)</script>')
    expect(headers.get('content-type')).toBe('text/html')
    expect(headers.get('x-content-type-options')).toBe('nosniff')
    expect(headers.get('content-security-policy')).toBe("sandbox; default-src 'none'")
  })
})
