import { setFlagsFromString } from 'node:v8'

/** What the start leaves to be done, such as finding out how the broker behaves, is done after this. */
const SETTLED_MS = 100

/** Who starts Node with one of these has chosen otherwise. V8 without its compilers crashes where it is to compile. */
const CHOSEN_OTHERWISE = /jitless|lite.mode|turbofan|maglev|semi.space|heap.growing|--(no.?)?opt\b/

/** The first Node whose V8 uses Maglev, its second compiler, if nobody says otherwise. */
const MAGLEV_SINCE = 24

/**
 * Sets flags of V8 for the start, to be called before most of the code is loaded: almost all of it runs once. To
 * optimise it took 30 ms of the processor time of a start and, with the compiler itself, 5 MiB. V8's young generation
 * grew to 16 MiB, as modules and what they build outlive it, and did not shrink while nothing was to be done.
 * @param options those of Node, from the command line and NODE_OPTIONS
 * @param version of Node, such as `24.1.0`
 * @returns to be called when the start is over: lets V8 optimise, and the young generation grow with the load
 */
export function beginStart(options: readonly string[], version: string): () => void {
  // Switch off allocation-site pretenuring. During the first load V8's young generation is still small, so objects of
  // requests survive in it, and V8 may decide to allocate them as old objects from then on. Only a full garbage
  // collection frees old objects and all that they refer to. In a process where that happens it costs a seventh of the
  // CPU time.
  setFlagsFromString('--no-allocation-site-pretenuring')
  if (options.some((option) => CHOSEN_OTHERWISE.test(option))) return () => {}
  const usesMaglev = Number.parseInt(version) >= MAGLEV_SINCE
  setFlagsFromString('--no-opt')
  // What Maglev compiles while the optimising compiler is off never comes to that one.
  if (usesMaglev) setFlagsFromString('--no-maglev')
  setFlagsFromString('--semi-space-growth-factor=1')
  return () => {
    // V8's own is 2. Under load it shall soon be as large as it would have been.
    setFlagsFromString('--semi-space-growth-factor=4')
    // The old generation may double before V8 marks all that is alive. V8 lets it grow by a tenth where that keeps 3 %
    // of the main thread busy at most, and does not ask what its helper threads keep from other processes: with 1,000
    // streams of 20,000 messages a second that was every two seconds, each time for 50 ms on two cores.
    setFlagsFromString('--heap-growing-percent=100')
    setTimeout(() => {
      setFlagsFromString('--opt')
      if (usesMaglev) setFlagsFromString('--maglev')
    }, SETTLED_MS).unref()
  }
}
