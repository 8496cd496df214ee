import type { BaseLogger } from 'pino'
import type { BrokerEvents, ConnectionState, StateChange } from '../mqtt/connection/broker.ts'
import type { LimitedLog } from './limited-log.ts'

export interface StateLog {
  /** Called each time a connection changes its state, and after each failed attempt. */
  changed(connection: string, state: ConnectionState, change: StateChange): void
}

/**
 * Logs one warning when the broker becomes unreachable, one for each new reason, and one line when it is back, for all
 * connections together; and each loss of a connection.
 */
export class BrokerStateLog implements StateLog {
  readonly #log: LimitedLog
  readonly #logger: BaseLogger
  /** Connections that the broker could not be reached for. */
  readonly #disconnected = new Set<string>()
  /** Connections that were lost, or could not be made, and are not back. */
  readonly #lost = new Set<string>()
  #reason: string | undefined
  #awaySince = 0
  #connectedTo: string | undefined

  /** @param logger gets each state of each connection, for debugging */
  constructor(log: LimitedLog, logger: BaseLogger) {
    this.#log = log
    this.#logger = logger
  }

  changed(connection: string, state: ConnectionState, { address, version, cause }: StateChange): void {
    this.#logger.debug({ connection, state }, 'MQTT connection')
    if (state === 'reconnecting' || state === 'disconnected') this.#lost.add(connection)
    const protocol = `MQTT ${version === 5 ? '5' : '3.1.1'}`
    if (state === 'reconnecting') {
      const reason = cause?.message
      this.#log.info('connection lost', { connection, reason }, `a connection to ${address} was lost; connecting again`)
    } else if (state === 'disconnected') this.#isAway(connection, `${address} over ${protocol}`, cause)
    else if (state === 'connected') this.#isBack(connection, `${address}, ${protocol}`)
    else this.#disconnected.delete(connection)
  }

  #isAway(connection: string, where: string, cause: StateChange['cause']): void {
    const reason = cause?.message
    const isNew = this.#disconnected.size === 0
    this.#disconnected.add(connection)
    if (isNew) this.#awaySince = performance.now()
    else if (reason === this.#reason) return
    this.#reason = reason
    const what = cause?.kind.code === 'bridge-refused' ? 'refuses the bridge' : 'cannot be reached'
    this.#log.warn('broker away', { connection, reason }, `the broker at ${where} ${what}; trying again until it can`)
  }

  #isBack(connection: string, where: string): void {
    const wasLost = this.#lost.delete(connection)
    const wasAway = this.#disconnected.delete(connection) && this.#disconnected.size === 0
    if (!wasAway && where === this.#connectedTo) {
      // The other connections of a start say nothing.
      if (wasLost) this.#log.info('connected again', { connection }, `a connection to ${where} is back`)
      return
    }
    this.#connectedTo = where
    const outage = wasAway && {
      awayMs: Math.round(performance.now() - this.#awaySince),
      lastReason: this.#reason,
    }
    if (wasAway) this.#reason = undefined
    this.#log.info(`connected to ${where}`, { ...outage }, `connected to ${where}`)
  }
}

/** Logs what the connections find out about the broker together. */
export function brokerEvents(log: LimitedLog): BrokerEvents {
  return {
    mqtt5Unanswered: (address, { message }) =>
      log.warn('MQTT 5 unanswered', { reason: message }, `${address} does not answer MQTT 5; trying MQTT 3.1.1`),
    referred: (address, reference, isFollowed) =>
      log.warn(
        'referred',
        { reference, isFollowed },
        `${address} names another server: ${JSON.stringify(reference)}; ` +
          (isFollowed ? 'connecting to that one' : 'it is not tried'),
      ),
    failedOver: (address, before) => log.warn('failover', {}, `${before} failed; trying ${address} next`),
    contested: (clientId, newClientId) =>
      log.error(
        'client id',
        { clientId, newClientId },
        'another client of the broker uses the same client id, and each ends the connection of the other. This ' +
          'bridge uses one of its own from now on; give each bridge its own CAUSEWAY_MQTT_CLIENT_ID, or none',
      ),
    tooLarge: (clientId, { message }, isDurable) =>
      log.error(
        `too large ${isDurable}`,
        { clientId, reason: message },
        isDurable
          ? 'a session cannot go on, since the broker sends it a message over the limit again and again; raise ' +
              'CAUSEWAY_MQTT_MAX_PACKET_BYTES, or delete the session'
          : 'a message over the limit was left out, with all that the broker had queued for this connection',
      ),
    suspected: (address) =>
      log.warn('not answering', {}, `a connection to ${address} was not answered any more; checking the others`),
  }
}

/** An `onState` option for one connection: reports each state to the log, and each reconnect. */
export function reportStates(
  connection: string,
  log: StateLog,
  reconnected: () => void,
): (state: ConnectionState, change: StateChange) => void {
  const reportReconnect = reportReconnects(reconnected)
  return (state, change) => {
    log.changed(connection, state, change)
    reportReconnect(state)
  }
}

/** The same for the connection of a session. Sessions come and go with their readers. */
export function reportSession(
  clientId: string,
  log: LimitedLog,
  reconnected: () => void,
): (state: ConnectionState, change: StateChange) => void {
  const reportReconnect = reportReconnects(reconnected)
  return (state, { cause }) => {
    reportReconnect(state)
    // Its reader has left.
    if (state === 'closed') return
    const level = state === 'disconnected' ? 'warn' : 'info'
    log[level](`session ${state}`, { clientId, reason: cause?.message }, `a session's connection is ${state}`)
  }
}

/** An `onState` option for one connection: reports each reconnect, which the first connect is not. */
function reportReconnects(reconnected: () => void): (state: ConnectionState) => void {
  let wasConnected = false
  return (state) => {
    if (state !== 'connected') return
    if (wasConnected) reconnected()
    wasConnected = true
  }
}
