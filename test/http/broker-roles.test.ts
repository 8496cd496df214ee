import { expect, test } from 'vitest'
import { basic } from '../support/accounts.ts'
import { startBridge } from '../support/bridge.ts'
import { canRefuseSubscriptions, startMosquittoWithRoles } from '../support/dynamic-security.ts'
import { get, publish } from '../support/http.ts'
import { openStream } from '../support/stream.ts'

const ann = basic('ann', 'secret of ann')
const bob = basic('bob', 'secret of bob')

test.runIf(canRefuseSubscriptions)(
  'a subscription that the broker refuses to one caller is 403 for that one alone',
  async () => {
    const broker = await startMosquittoWithRoles({
      ann: { password: 'secret of ann', refused: [] },
      bob: { password: 'secret of bob', refused: ['a/#'] },
    })
    const bridge = await startBridge({ AUTH: 'broker', MQTT_URL: broker.url })
    const url = `${bridge.url}/subscribe?topic=a/%23`
    const stream = await openStream(url, ann)
    expect((await get(bridge, '/subscribe?topic=a/%23', bob)).body).toMatchObject({
      status: 403,
      code: 'not-authorized',
    })
    expect((await get(bridge, '/subscribe?topic=a/%23&session=s', bob)).body).toMatchObject({
      status: 403,
      code: 'not-authorized',
    })
    expect((await get(bridge, '/retained?topic=a/%23', bob)).body).toMatchObject({
      status: 403,
      code: 'not-authorized',
    })
    expect((await openStream(`${bridge.url}/subscribe?topic=a/1`, bob)).status).toBe(200)
    expect((await publish(bridge, { topic: 'a/1', payload: 'x' }, ann)).status).toBe(200)
    expect((await stream.next()).data).toMatchObject({ payload: 'x' })
    expect((await publish(bridge, { topic: 'a/1' }, basic('ann', 'wrong'))).body).toMatchObject({
      status: 401,
      code: 'unauthorized',
    })
  },
)
