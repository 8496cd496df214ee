import type { Fault } from './fault.ts'
import { bridgeFaults } from './faults/bridge.ts'
import { brokerFaults } from './faults/broker.ts'
import { clientFaults } from './faults/clients.ts'
import { linkFaults } from './faults/link.ts'
import { replicaFaults } from './faults/replicas.ts'

export const faults: readonly Fault[] = [
  ...linkFaults,
  ...brokerFaults,
  ...bridgeFaults,
  ...replicaFaults,
  ...clientFaults,
]

/** Two minutes of the most important ones. */
export const briefFaults: readonly Fault[] = faults.filter(({ brief }) => brief)
