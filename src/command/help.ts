import { allSettings, type Setting } from '../config/setting.ts'
import type { CommandName } from './arguments.ts'

const EXIT_CODES = `Exit codes: 0 done; 1 the configuration is not valid, or the start failed; 2 the command line is
not understood; 3 there is no connection to the broker (causeway check --connect).`

const MAIN = `Causeway, an HTTP-to-MQTT bridge: publish with POST, follow topics as server-sent events.

Usage: causeway [SETTING…]           start the bridge; Ctrl-C stops it
       causeway check [SETTING…]     check the configuration, and with --connect the broker
       causeway token NAME           make a token and its entry for the token file
       causeway [COMMAND] --help     this text, or the one of a command
       causeway --version

Without any setting the bridge runs on a broker of its own, and listens on 127.0.0.1:8080.`

const SETTINGS = `Every setting is a flag and a variable of the environment; the flag wins. The flag of a setting
that is true or false needs no value: --auth-cookie, or --no-auth-cookie.

Do not write secrets on the command line: every user of the machine can read them there (ps), and
the shell keeps them in its history. Use the variable, or a file that contains the secret:
--mqtt-password-file PATH.`

const COMMANDS: Record<CommandName, string> = {
  check: `Usage: causeway check [--connect] [--json] [SETTING…]

Checks the configuration: all settings, whether they go together, and the files that they name. Starts nothing.

  --connect   also connect to the broker; show what it is and what it supports, and try out with some messages
              below CAUSEWAY_MARKER_TOPIC what it does
  --json      print the result as JSON

The settings are those of causeway --help.

${EXIT_CODES}
`,
  token: `Usage: causeway token NAME

Prints a new token, and on the next line its entry for the file of CAUSEWAY_AUTH_TOKENS_FILE. Add the filters that its
caller may publish and subscribe to. The token itself is stored nowhere, so it cannot be shown again.
`,
}

/** The column at which descriptions begin. */
const INDENT = 6

/** @param width of the terminal, in columns */
export function helpText(command: CommandName | undefined, width: number): string {
  if (command !== undefined) return COMMANDS[command]
  const settings = allSettings()
  const groups = [...new Set(settings.map(({ group }) => group))].map((group) => {
    const entries = settings.filter((setting) => setting.group === group).map((setting) => entryOf(setting, width))
    return `${group}\n\n${entries.join('\n')}`
  })
  return `${MAIN}\n\n${SETTINGS}\n\n${groups.join('\n\n')}\n\n${EXIT_CODES}\n`
}

function entryOf(setting: Setting, width: number): string {
  const { flag, variable, fallback, description, isSecret } = setting
  const value = valueOf(setting)
  const flags = `${flag}${value === '' ? '' : ` ${value}`}${isSecret ? `, ${flag}-file PATH` : ''}`
  const where = `${variable}${isSecret ? ' or …_FILE' : ''}${fallback === undefined ? '' : `, default ${fallback}`}`
  return `  ${flags}\n${wrapped(`${description}.`, width)}\n${' '.repeat(INDENT)}${where}`
}

function valueOf({ type, choices, key, variable }: Setting): string {
  if (type === 'boolean') return ''
  if (choices !== undefined) return choices.join('|')
  if (type === 'integer') return 'N'
  if (variable.endsWith('_FILE')) return 'PATH'
  return key.endsWith('Url') ? 'URL' : 'TEXT'
}

function wrapped(text: string, width: number): string {
  const lines = ['']
  for (const word of text.split(' ')) {
    const line = lines.at(-1)!
    if (line !== '' && INDENT + line.length + 1 + word.length > width) lines.push(word)
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`
  }
  return lines.map((line) => `${' '.repeat(INDENT)}${line}`).join('\n')
}
