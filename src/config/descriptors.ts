import { type Config, ConfigError } from './config.ts'

/** Files, timers, the listeners, connections of seldom-used kinds, and what Node itself opens. */
const OTHER_DESCRIPTORS = 40

/**
 * Makes the limit of connections fit the number of descriptors that the process may open. Without descriptors left, the
 * bridge could not come back to its broker as long as clients hold them all.
 *
 * @param isGiven whether the limit of connections was set, and not left at its default
 * @param descriptors most open descriptors (`ulimit -n`); undefined where that is not known
 * @returns the configuration, with a lower limit where the default does not fit
 * @throws ConfigError where a limit that was set does not fit
 */
export function fitDescriptors(config: Config, isGiven: boolean, descriptors: number | undefined): Config {
  if (descriptors === undefined) return config
  const { publishConnections, subscribeConnectionsMax } = config
  const fitting = descriptors - publishConnections - subscribeConnectionsMax - OTHER_DESCRIPTORS
  if (config.httpConnectionsMax <= fitting) return config
  if (isGiven || fitting < 1) {
    throw new ConfigError([
      `CAUSEWAY_HTTP_CONNECTIONS_MAX: expected at most ${Math.max(fitting, 0)}, as ulimit -n is ${descriptors} ` +
        `and the rest is for the broker and for files, got ${config.httpConnectionsMax}`,
    ])
  }
  return { ...config, httpConnectionsMax: fitting }
}

/** The limit of open descriptors in the text of `/proc/self/limits`. */
export function descriptorLimit(limits: string): number | undefined {
  const found = /^Max open files +(\d+)/m.exec(limits)
  return found === null ? undefined : Number(found[1])
}
