import { describe, expect, test } from 'vitest'
import { BROKERS, brokerUrl, startBridge } from '../../support/bridge.ts'
import { publish } from '../../support/http.ts'
import { collect, mqttClient } from '../../support/mqtt-client.ts'
import { rawEvents } from '../../support/raw-events.ts'
import { openStream } from '../../support/stream.ts'

const TEXTS: [string, string][] = [
  ['nothing', ''],
  ['plain text', 'hello'],
  ['LF', 'one\ntwo\n\nthree\n'],
  ['CR', 'one\rtwo\r\rthree\r'],
  ['CRLF', 'one\r\ntwo\r\n\r\nthree\r\n'],
  ['a forged event', '\n\nevent: gap\nid: 0-0\nretry: 1\ndata: {"forged":true}\n\n'],
  ['NUL', 'one\0two\0'],
  [
    'every control character',
    Array.from({ length: 32 }, (_, code) => String.fromCharCode(code)).join('') + '\u007f\u0085\u009f',
  ],
  ['the separators of Unicode', 'one\u2028two\u2029three\u0085'],
  ['a byte order mark', '\uFEFFtext'],
  ['quotes and backslashes', '"\\"\\\\n\'</script>'],
  ['beyond the basic plane', '𝄞😀\u{10FFFF}'],
  ['what looks like base64', 'aGVsbG8='],
  ['what looks like JSON', '{"a": 1.0, "b":[12345678901234567890]}'],
]
const BYTES: [string, number[]][] = [
  ['a lone continuation byte', [0x80]],
  ['an overlong encoding', [0xc0, 0x80]],
  ['an encoded surrogate', [0xed, 0xa0, 0x80]],
  ['a character cut off', [0x61, 0xe2, 0x82]],
  ['beyond Unicode', [0xf4, 0x90, 0x80, 0x80]],
  ['every byte there is', Array.from({ length: 256 }, (_, byte) => byte)],
]

describe.each(BROKERS)('a payload on $name', ({ start }) => {
  test('of valid UTF-8 arrives as the same text, byte for byte', async () => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const client = await mqttClient(brokerUrl(bridge, settings))
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    for (const [name, text] of TEXTS) {
      await client.publishAsync('a', text, { qos: 1 })
      const { event, data } = await stream.next()
      expect([name, event, data]).toEqual([
        name,
        'message',
        { topic: 'a', payload: text, encoding: 'utf8', qos: 1, retain: false },
      ])
    }
    expect(rawEvents(stream.text())).toEqual(TEXTS.map(() => ['id', 'data']))
  })

  test('of other bytes arrives in base64', async () => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const client = await mqttClient(brokerUrl(bridge, settings))
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    for (const [name, bytes] of BYTES) {
      await client.publishAsync('a', Buffer.from(bytes), { qos: 1 })
      const { data } = await stream.next()
      expect([name, data]).toEqual([
        name,
        { topic: 'a', payload: Buffer.from(bytes).toString('base64'), encoding: 'base64', qos: 1, retain: false },
      ])
    }
  })

  test('that is JSON is embedded where the stream asks for it, and nothing else is', async () => {
    const bridge = await startBridge(await start())
    const stream = await openStream(`${bridge.url}/subscribe?topic=a&encoding=json`)
    for (const [payload, expected, encoding] of [
      ['{"celsius":21.5,"tags":["a","b\\n"]}', { celsius: 21.5, tags: ['a', 'b\n'] }, 'json'],
      ['21.5', 21.5, 'json'],
      ['null', null, 'json'],
      ['"text"', 'text', 'json'],
      [' {\r\n "a"\n:1}\n', { a: 1 }, 'json'],
      ['{"a":', '{"a":', 'utf8'],
      ['text', 'text', 'utf8'],
      ['', '', 'utf8'],
    ]) {
      await publish(bridge, { topic: 'a', payload, encoding: 'utf8' })
      expect((await stream.next()).data).toEqual({ topic: 'a', payload: expected, encoding, qos: 1, retain: false })
    }
    await publish(bridge, { topic: 'a', payload: '/w==', encoding: 'base64' })
    expect((await stream.next()).data).toMatchObject({ payload: '/w==', encoding: 'base64' })
  })

  test('in an event posted back unchanged makes the same message', async () => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const client = await mqttClient(brokerUrl(bridge, settings))
    const seen = await collect(await mqttClient(brokerUrl(bridge, settings)), 'a')
    for (const encoding of ['', '&encoding=json']) {
      const stream = await openStream(`${bridge.url}/subscribe?topic=a${encoding}`)
      for (const payload of [
        ...TEXTS.slice(0, -1).map(([, text]) => Buffer.from(text)),
        ...BYTES.map(([, bytes]) => Buffer.from(bytes)),
        Buffer.from('{"a":[1,null,"x"]}'),
      ]) {
        await client.publishAsync('a', payload, { qos: 1 })
        const original = await seen.next()
        const { data } = await stream.next()
        expect((await publish(bridge, data)).status).toBe(200)
        const again = await seen.next()
        expect(Buffer.from(again.payload).equals(payload)).toBe(true)
        expect({ topic: again.topic, qos: again.qos, retain: again.retain }).toEqual({
          topic: original.topic,
          qos: original.qos,
          retain: original.retain,
        })
        expect((await stream.next()).data).toEqual(data)
      }
      stream.close()
    }
  })

  test('goes with a topic of any letters, which arrives as it was', async () => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const client = await mqttClient(brokerUrl(bridge, settings))
    const stream = await openStream(`${bridge.url}/subscribe?topic=t/%23`)
    for (const level of [
      '"quoted"',
      'back\\slash',
      'data: x',
      'ü 𝄞 \u2028\u2029',
      '{"a":1}',
      ' ',
      '%23%2B',
      'x'.repeat(5000),
      '\uFEFF',
      '<b>&amp;',
    ]) {
      await client.publishAsync(`t/${level}`, 'x', { qos: 1 })
      expect((await stream.next()).data).toEqual({
        topic: `t/${level}`,
        payload: 'x',
        encoding: 'utf8',
        qos: 1,
        retain: false,
      })
    }
  })
})

test('a topic with line ends, which the embedded broker lets through, forges nothing', async () => {
  const bridge = await startBridge()
  const client = await mqttClient(bridge.embeddedUrl!)
  const stream = await openStream(`${bridge.url}/subscribe?topic=t/%23`)
  const levels = ['\n\ndata: {"forged":true}\n\n', '\r\rid: 0-0\r\r', '\r\nevent: gap\r\n', '\u0001\u001f\u007f']
  for (const level of levels) {
    await client.publishAsync(`t/${level}`, 'x', { qos: 1 })
    expect(await stream.next()).toMatchObject({ event: 'message', data: { topic: `t/${level}`, payload: 'x' } })
  }
  expect(rawEvents(stream.text())).toEqual(levels.map(() => ['id', 'data']))
})
