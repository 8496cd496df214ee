import { parseArgs } from 'node:util'
import { didYouMean } from '../config/closest.ts'
import type { Flag } from '../config/config.ts'
import { allSettings, flagName } from '../config/setting.ts'

/** What the command line asks for. */
export type Command =
  | { name: 'serve'; flags: Flag[] }
  | { name: 'check'; flags: Flag[]; connect: boolean; json: boolean }
  | { name: 'token'; tokenName: string }
  | { name: 'help'; of: CommandName | undefined }
  | { name: 'version' }

export const COMMAND_NAMES = ['check', 'token'] as const
export type CommandName = (typeof COMMAND_NAMES)[number]

/** The command line cannot be understood. The message has a line for each fault. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

const SHORT = { h: '--help', v: '--version' } as const
/** What may be said besides settings, by the command that knows it. */
const SWITCHES: Record<string, readonly ('serve' | CommandName)[]> = {
  '--help': ['serve', 'check', 'token'],
  '--version': ['serve', 'check', 'token'],
  '--connect': ['check'],
  '--json': ['check'],
}

interface KnownFlag {
  variable: string
  isBoolean: boolean
  /** What the flag alone says, without `=VALUE`. */
  alone?: 'true' | 'false'
}

/**
 * Reads a command line.
 *
 * @param args without the names of Node and of the program
 * @throws UsageError with all faults
 */
export function parseArguments(args: readonly string[]): Command {
  const known = knownFlags()
  const { tokens } = parseArgs({
    args: [...args],
    strict: false,
    allowPositionals: true,
    tokens: true,
    options: optionTypes(known),
  })
  const words = tokens.filter((token) => token.kind === 'positional').map(({ value }) => value)
  const [first, ...operands] = words
  const faults: string[] = []
  const command = COMMAND_NAMES.find((name) => name === first)
  const switches = new Set<string>()
  const flags: Flag[] = []
  for (const token of tokens) {
    if (token.kind !== 'option') continue
    const name = SHORT[token.rawName.slice(1) as keyof typeof SHORT] ?? token.rawName
    const flag = known.get(name)
    const commands = SWITCHES[name]
    if (flag !== undefined) {
      if (command === 'token') faults.push(`${name}: the command token takes no settings`)
      else if (flags.some(({ name: before }) => before === name)) faults.push(`${name} is there twice`)
      else if (flag.isBoolean) flags.push({ name, variable: flag.variable, text: token.value ?? flag.alone! })
      else if (token.value) flags.push({ name, variable: flag.variable, text: token.value })
      else faults.push(`${name} needs a value: ${name} VALUE`)
    } else if (commands === undefined) {
      faults.push(`${name} is no option${didYouMean(name, [...known.keys(), ...Object.keys(SWITCHES)])}`)
    } else if (!commands.includes(command ?? 'serve')) {
      faults.push(`${name} is an option of ${commands.map((each) => `causeway ${each}`).join(' and ')} only`)
    } else if (token.value !== undefined) {
      faults.push(`${name} takes no value`)
    } else {
      switches.add(name)
    }
  }
  // Whoever asks for help gets it, whatever else is wrong.
  if (switches.has('--help')) return { name: 'help', of: command }
  if (switches.has('--version')) return { name: 'version' }
  // Behind an option that is not known, it is probably the value of that.
  if (first !== undefined && command === undefined && faults.length === 0) {
    faults.push(`${JSON.stringify(first)} is no command${didYouMean(first, COMMAND_NAMES)}`)
  }
  const operandsMax = command === 'token' ? 1 : 0
  if (command !== undefined && operands.length > operandsMax) {
    faults.push(
      `unexpected: ${operands
        .slice(operandsMax)
        .map((operand) => JSON.stringify(operand))
        .join(' ')}`,
    )
  }
  if (command === 'token' && !operands[0]) faults.push('the command token needs a name: causeway token NAME')
  if (faults.length > 0) throw new UsageError(faults.join('\n'))
  if (command === 'token') return { name: 'token', tokenName: operands[0]! }
  if (command === 'check') {
    return { name: 'check', flags, connect: switches.has('--connect'), json: switches.has('--json') }
  }
  return { name: 'serve', flags }
}

function knownFlags(): Map<string, KnownFlag> {
  const known = new Map<string, KnownFlag>()
  for (const { flag, variable, type, isSecret } of allSettings()) {
    const isBoolean = type === 'boolean'
    known.set(flag, { variable, isBoolean, ...(isBoolean && { alone: 'true' }) })
    if (isBoolean) known.set(flag.replace(/^--/, '--no-'), { variable, isBoolean, alone: 'false' })
    if (isSecret) known.set(flagName(`${variable}_FILE`), { variable: `${variable}_FILE`, isBoolean: false })
  }
  return known
}

function optionTypes(known: ReadonlyMap<string, KnownFlag>): Record<string, { type: 'string' | 'boolean' }> {
  return Object.fromEntries(
    [...known].map(([name, { isBoolean }]) => [name.slice(2), { type: isBoolean ? 'boolean' : 'string' }] as const),
  )
}

/** The flags that contain a secret themselves, and not the path of a file. URLs do only where they have a password. */
export function secretsShown(flags: readonly Flag[]): string[] {
  const secrets = new Set(allSettings().flatMap(({ isSecret, variable }) => (isSecret ? [variable] : [])))
  return flags
    .filter(({ variable, text }) => secrets.has(variable) && (!variable.endsWith('_URL') || text.includes('@')))
    .map(({ name }) => name)
}
