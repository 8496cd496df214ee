import { type Settings, urlOf } from './api.ts'
import { CredentialsPanel } from './credentials-panel.ts'
import { byId, say } from './element.ts'
import { FollowPanel } from './follow-panel.ts'
import { PublishPanel } from './publish-panel.ts'
import { StatePanel } from './state-panel.ts'

const RETRY_MS = 2000

async function readSettings(): Promise<Settings> {
  for (;;) {
    try {
      return (await (await fetch(urlOf('console/settings.json'))).json()) as Settings
    } catch {
      // The page came from a cache, or the bridge has just been stopped.
      say(byId('broker'), 'The bridge cannot be reached', 'bad')
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
    }
  }
}

const settings = await readSettings()
byId('version').textContent = settings.version

const credentials = new CredentialsPanel(settings, () => state.start())
const state = new StatePanel(credentials.api, settings)
const follow = new FollowPanel(credentials.api, settings)
new PublishPanel(credentials.api, settings, () => follow.settled)
if (settings.auth !== 'none') say(byId('broker'), 'Sign in to see the state', 'warn')
await credentials.start()
