import type { BrokerKind } from '../broker-process.ts'
import { fromMaven } from './maven.ts'

const VERSION = '2025.5'

export const hivemq: BrokerKind = {
  name: 'hivemq',
  title: 'HiveMQ CE',
  startMs: 120_000,
  async install() {
    const command = await fromMaven({
      name: 'hivemq',
      version: VERSION,
      artifacts: [`com.hivemq:hivemq-community-edition-embedded:${VERSION}`],
      program: 'Hivemq.java',
      jvmOptions: [
        '--add-opens=java.base/java.lang=ALL-UNNAMED',
        '--add-opens=java.base/java.nio=ALL-UNNAMED',
        '--add-opens=java.base/sun.nio.ch=ALL-UNNAMED',
        '--add-exports=java.base/jdk.internal.misc=ALL-UNNAMED',
      ],
    })
    return typeof command === 'string' ? command : { version: VERSION, accounts: true, command }
  },
}
