// A caller that keeps to the rules, in a thread of its own, so that the attacker's work does not count as the bridge's
// delay. A few times a second it publishes at QoS 1 and waits for the event on its own stream, reads a retained message
// and asks /livez. It records every wrong answer and every late one.
import { readFileSync } from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import { parentPort, workerData } from 'node:worker_threads'

const { url, ca, pid, headers, topic, lateMs, parts, mayGap } = workerData
const EVERY_MS = 150
const GIVE_UP_MS = 8000
const RETAINED = 'a retained message of the polite client'

const failures = []
const worst = {}
/** Payloads that were acknowledged or are on their way, until their event has come. */
const awaited = new Map()
const received = new Set()
let rounds = 0
let sequence = 0
let running = 0
let stopped = false
let session

function fail(text) {
  if (failures.length < 20) failures.push(text)
}

/** Milliseconds for which the bridge was ready to run and had no CPU, since it began: other processes had them. */
function waitedMs() {
  try {
    return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[1]) / 1e6
  } catch {
    return 0
  }
}

const now = () => ({ at: performance.now(), waited: waitedMs() })

function took(what, begin) {
  const ms = Math.round(performance.now() - begin.at)
  worst[what] = Math.max(worst[what] ?? 0, ms)
  // What other processes of a busy machine take from the bridge is no delay of its own.
  const waited = Math.max(0, Math.round(waitedMs() - begin.waited))
  if (ms > lateMs + waited) fail(`${what} took ${ms} ms, in which the bridge waited for a CPU for ${waited}`)
}

/** Calls `onLate` when the bridge has had so long for an answer, apart from what it waited for a CPU. Returns a stop. */
function giveUpAfter(ms, onLate) {
  const begin = now()
  let timer
  function look() {
    const left = ms + waitedMs() - begin.waited - (performance.now() - begin.at)
    if (left > 0) timer = setTimeout(look, left)
    else onLate()
  }
  look()
  return () => clearTimeout(timer)
}

function http2Session() {
  if (session === undefined || session.closed || session.destroyed) {
    session = http2.connect(url, { ca, settings: { enablePush: false } })
    session.on('error', (error) => fail(`HTTP/2 connection: ${error.message}`))
  }
  return session
}

/** Opens a request; `onAnswer` gets the status and the stream of the body. */
function open(method, path, body, more, onAnswer, onError) {
  if (url.startsWith('https')) {
    const stream = http2Session().request({ ':method': method, ':path': path, ...headers, ...more })
    stream.on('error', onError)
    stream.on('response', (answer) => onAnswer(answer[':status'], stream))
    stream.on('close', () => onError(new Error('closed')))
    stream.end(body)
    return () => stream.close()
  }
  const request = http.request(url + path, { method, headers: { ...headers, ...more }, agent: false })
  request.on('error', onError)
  request.on('response', (answer) => {
    answer.on('error', onError)
    onAnswer(answer.statusCode, answer)
  })
  request.end(body)
  return () => request.destroy()
}

function ask(method, path, body) {
  return new Promise((resolve) => {
    const stop = giveUpAfter(GIVE_UP_MS, () => {
      resolve({ status: 0, text: `no answer within ${GIVE_UP_MS} ms` })
      cancel()
    })
    const cancel = open(
      method,
      path,
      body,
      {},
      (status, stream) => {
        let text = ''
        stream.setEncoding('utf8').on('data', (chunk) => (text += chunk))
        stream.on('end', () => {
          stop()
          resolve({ status, text })
        })
      },
      (error) => {
        stop()
        resolve({ status: 0, text: error.code ?? error.message })
      },
    )
  })
}

async function check(what, method, path, body, isRight) {
  const begin = now()
  const { status, text } = await ask(method, path, body)
  took(what, begin)
  const isFine = status === 200 && isRight(text)
  if (!isFine) fail(`${what}: ${status} ${text.slice(0, 150)}`)
  return isFine
}

const livez = () => check('livez', 'GET', '/livez', undefined, () => true)
const retained = () => check('retained', 'GET', `/retained?topic=${topic}/kept`, undefined, (text) => text === RETAINED)

async function publish() {
  const payload = `${(sequence += 1)}`
  const begin = now()
  const followed = parts.includes('stream')
  const arrived = followed && new Promise((resolve) => awaited.set(payload, resolve))
  const path = `/publish?topic=${topic}/live&qos=1`
  const isPublished = await check('publish', 'POST', path, payload, (text) => JSON.parse(text).qos === 1)
  // What was refused has no event.
  if (!followed || !isPublished) return
  const stop = giveUpAfter(GIVE_UP_MS, () => awaited.get(payload)?.(false))
  if (!(await arrived)) fail(`event ${payload} did not come`)
  stop()
  awaited.delete(payload)
  took('event', begin)
}

let cancelStream = () => {}
function follow() {
  return new Promise((resolve, reject) => {
    const gone = () => {
      if (!stopped) fail('its stream ended')
      for (const settle of awaited.values()) settle(false)
    }
    cancelStream = open(
      'GET',
      `/subscribe?topic=${topic}/live&retained=false`,
      undefined,
      { accept: 'application/x-ndjson' },
      (status, stream) => {
        if (status !== 200) reject(new Error(`the polite client's stream: ${status}`))
        let rest = ''
        stream.setEncoding('utf8').on('data', (chunk) => {
          const lines = (rest + chunk).split('\n')
          rest = lines.pop()
          for (const line of lines.filter(Boolean)) heard(JSON.parse(line))
        })
        stream.on('close', gone)
        resolve()
      },
      reject,
    )
  })
}

function heard({ event = 'message', data }) {
  if (event === 'gap' || (event === 'status' && data.broker !== 'connected')) {
    if (!mayGap) fail(`its stream said ${event} ${JSON.stringify(data)}`)
    // What a gap says is lost may be lost.
    if (event === 'gap') for (const settle of awaited.values()) settle(true)
  }
  if (event !== 'message') return
  if (received.has(data.payload) && !data.redelivered && !mayGap) fail(`event ${data.payload} came twice`)
  received.add(data.payload)
  awaited.get(data.payload)?.(true)
}

async function round() {
  running += 1
  await Promise.all([
    parts.includes('publish') && publish(),
    parts.includes('retained') && retained(),
    parts.includes('livez') && livez(),
  ])
  running -= 1
  rounds += 1
  parentPort.postMessage({ rounds })
}

async function main() {
  if (parts.includes('retained')) {
    const { status, text } = await ask('POST', `/publish?topic=${topic}/kept&retain=true`, RETAINED)
    if (status !== 200) throw new Error(`the polite client's retained message: ${status} ${text}`)
  }
  if (parts.includes('stream')) await follow()
  const timer = setInterval(() => {
    // A round may be late; the next ones are begun all the same, or a delay would be seen once only.
    if (running < 10) void round().catch((error) => fail(`${error}`))
  }, EVERY_MS)
  parentPort.on('message', async () => {
    clearInterval(timer)
    while (running > 0) await new Promise((resolve) => setTimeout(resolve, 20))
    stopped = true
    cancelStream()
    session?.destroy()
    parentPort.postMessage({ summary: { rounds, worst, failures } })
    parentPort.close()
  })
}

void main().catch((error) => {
  parentPort.postMessage({ summary: { rounds, worst, failures: [`${error.message}`] } })
  parentPort.close()
})
