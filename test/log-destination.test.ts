import { execFileSync } from 'node:child_process'
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { openLog } from '../src/log-destination.ts'

function directory(): string {
  const path = mkdtempSync(join(tmpdir(), 'causeway-log-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

function fifo(): { read(): string; log: ReturnType<typeof openLog>; closeReader(): void } {
  const path = join(directory(), 'log')
  execFileSync('mkfifo', [path])
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const writer = openSync(path, constants.O_WRONLY)
  const log = openLog(writer)
  onTestFinished(() => {
    log.close()
    closeSync(writer)
  })
  const buffer = Buffer.alloc(4_000_000)
  return {
    log,
    closeReader: () => closeSync(reader),
    read() {
      let text = ''
      for (;;) {
        try {
          const count = readSync(reader, buffer)
          if (count === 0) return text
          text += buffer.toString('utf8', 0, count)
        } catch {
          return text
        }
      }
    },
  }
}

test('a file gets every line', () => {
  const path = join(directory(), 'log')
  const fd = openSync(path, 'w')
  const log = openLog(fd)
  for (let index = 0; index < 1000; index += 1) log.write(`${index}\n`)
  log.close()
  closeSync(fd)
  expect(readFileSync(path, 'utf8').split('\n')).toHaveLength(1001)
})

test('a reader that is late gets everything, in whole lines', async () => {
  const { log, read, closeReader } = fifo()
  onTestFinished(closeReader)
  const lines = Array.from({ length: 3000 }, (_, index) => `${index} ${'x'.repeat(100)}\n`)
  for (const line of lines) log.write(line)
  let text = ''
  await expect
    .poll(() => {
      text += read()
      return text.length
    })
    .toBe(lines.join('').length)
  expect(text).toBe(lines.join(''))
})

test('what nobody reads is dropped beyond a limit, and its number logged', async () => {
  const { log, read, closeReader } = fifo()
  onTestFinished(closeReader)
  const line = `${'x'.repeat(9999)}\n`
  for (let index = 0; index < 300; index += 1) log.write(line)
  let text = ''
  await expect
    .poll(() => {
      const before = text.length
      text += read()
      return text.length === before && text.length > 1_000_000
    })
    .toBe(true)
  log.write('after\n')
  text += read()
  const kept = text.split('\n').filter((each) => each.startsWith('x')).length
  const [dropped] = /(\d+)(?= log lines were dropped)/.exec(text)!
  expect(kept + Number(dropped)).toBe(300)
  expect(text.endsWith('after\n')).toBe(true)
})

test('a pipe that nobody reads any more is no error', () => {
  const { log, closeReader } = fifo()
  closeReader()
  for (let index = 0; index < 10; index += 1) log.write('line\n')
  log.flush()
})
