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

/** An option as `parseArgs` found it. */
interface OptionToken {
  /** With its dashes. */
  rawName: string
  value?: string | undefined
  /** Whether the value was written as `--name=value`. */
  inlineValue?: boolean | undefined
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
  const command = COMMAND_NAMES.find((name) => name === words[0])
  const options = tokens.filter((token) => token.kind === 'option')
  const { flags, switches, faults } = readOptions(options, command, known)
  // Whoever asks for help gets it, whatever else is wrong.
  if (switches.has('--help')) return { name: 'help', of: command }
  if (switches.has('--version')) return { name: 'version' }
  // Behind an option that is not known, a word is probably its value.
  if (command !== undefined || faults.length === 0) faults.push(...wordFaults(words, command))
  if (faults.length > 0) throw new UsageError(faults.join('\n'))
  switch (command) {
    case 'token':
      return { name: 'token', tokenName: words[1]! }
    case 'check':
      return { name: 'check', flags, connect: switches.has('--connect'), json: switches.has('--json') }
    case undefined:
      return { name: 'serve', flags }
  }
}

interface Options {
  flags: Flag[]
  /** Those of `SWITCHES` that were given. */
  switches: Set<string>
  faults: string[]
}

function readOptions(
  tokens: readonly OptionToken[],
  command: CommandName | undefined,
  known: ReadonlyMap<string, KnownFlag>,
): Options {
  const [flags, switches, faults]: [Flag[], Set<string>, string[]] = [[], new Set(), []]
  for (const token of tokens) {
    const name = SHORT[token.rawName.slice(1) as keyof typeof SHORT] ?? token.rawName
    const flag = known.get(name)
    const commands = SWITCHES[name]
    if (flag !== undefined) {
      const text = token.value ?? flag.alone
      if (command === 'token') faults.push(`${name}: the command token takes no settings`)
      else if (flags.some(({ name: before }) => before === name)) faults.push(`${name} is there twice`)
      else if (flag.alone === 'false' && token.value !== undefined) faults.push(`${name} takes no value`)
      else if (!text || isNextOption(token, known)) faults.push(`${name} needs a value: ${name} VALUE`)
      else flags.push({ name, variable: flag.variable, text })
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
  return { flags, switches, faults }
}

/** @param words the command, if there is one, and what it is about */
function wordFaults([first, ...operands]: readonly string[], command: CommandName | undefined): string[] {
  if (first === undefined) return []
  if (command === undefined) return [`${JSON.stringify(first)} is no command${didYouMean(first, COMMAND_NAMES)}`]
  if (command === 'token' && !operands[0]) return ['the command token needs a name: causeway token NAME']
  const unexpected = operands.slice(command === 'token' ? 1 : 0)
  return unexpected.map((word) => `unexpected: ${JSON.stringify(word)}`)
}

/** Whether the value was left out, so that the option behind was taken for it. */
function isNextOption({ value, inlineValue }: OptionToken, known: ReadonlyMap<string, KnownFlag>): boolean {
  return inlineValue === false && value !== undefined && (known.has(value.split('=', 1)[0]!) || value in SWITCHES)
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
