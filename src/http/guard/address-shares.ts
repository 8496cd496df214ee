import { networkOf } from '../../auth/network.ts'
import type { MemoryAccount, MemoryShare } from '../../memory/account.ts'

/** How many addresses are remembered. */
const RECENT_MAX = 1000

/**
 * The share of memory of an address. Shares of addresses that called lately are remembered: to make the name of one and
 * to look it up cost 1 % of a publish.
 */
export function createAddressShares(memory: MemoryAccount): (address: string) => MemoryShare {
  const recent = new Map<string, MemoryShare>()
  return (address) => {
    const known = recent.get(address)
    if (known !== undefined) return known
    if (recent.size === RECENT_MAX) recent.clear()
    const share = memory.shareOf(`address:${networkOf(address)}`)
    recent.set(address, share)
    return share
  }
}
