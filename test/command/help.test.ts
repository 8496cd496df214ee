import { expect, test } from 'vitest'
import { helpText } from '../../src/command/help.ts'
import { allSettings } from '../../src/config/setting.ts'

test('help lists every setting with its flag, variable and default, within the width of the terminal', () => {
  const text = helpText(undefined, 80)
  for (const { flag, variable, fallback } of allSettings()) {
    const shown = new RegExp(`^  ${flag}( .*)?\\n( {6}.*\\n)+? {6}${variable}( or …_FILE)?(, default (.*))?$`, 'm')
    const [, , , , , found] = shown.exec(text) ?? expect.fail(`${flag} is missing`)
    expect(found).toBe(fallback)
  }
  const descriptions = text.split('\n\nBroker\n')[1]!.split('\nExit codes')[0]!
  const long = descriptions.split('\n').filter((line) => line.startsWith('      ') && line.length > 80)
  expect(long.filter((line) => !line.startsWith('      CAUSEWAY_'))).toEqual([])
})

test('the flag of a file is offered for secrets alone', () => {
  expect([...helpText(undefined, 100).matchAll(/, (--\S+-file) PATH/g)].map(([, flag]) => flag)).toEqual(
    allSettings()
      .filter(({ isSecret }) => isSecret)
      .map(({ flag }) => `${flag}-file`),
  )
})

test.each(['check', 'token'] as const)('%s has a help of its own', (command) => {
  expect(helpText(command, 80)).toMatch(new RegExp(`^Usage: causeway ${command} `))
})
