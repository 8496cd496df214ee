import type uPlot from 'uplot'
import { clock } from './visible.ts'

declare global {
  interface Window {
    /** uPlot draws some hundred points in a millisecond, has no dependencies, and is 50 kB. */
    uPlot: typeof uPlot
  }
}

export interface Series {
  label: string
  /** Name of the CSS variable of its colour. */
  colour: string
}

const HEIGHT = 170
const POINTS_MAX = 300
const SHOWN_MIN_S = 60
const SHOWN_MAX_S = 300

/** A small plot over time, of the newest points. Follows the width of its element and the colours of the page. */
export class Plot {
  readonly #root: HTMLElement
  readonly #series: readonly Series[]
  readonly #data: (number | null)[][]
  #plot: uPlot | undefined

  constructor(root: HTMLElement, series: readonly Series[]) {
    this.#root = root
    this.#series = series
    this.#data = [[], ...series.map(() => [])]
    new ResizeObserver(() => this.#plot?.setSize({ width: root.clientWidth, height: HEIGHT })).observe(root)
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#make())
    this.#make()
  }

  /** @param atMs milliseconds since the epoch; null where there is no value */
  add(atMs: number, values: readonly (number | null)[]): void {
    for (const [index, value] of [atMs / 1000, ...values].entries()) {
      const column = this.#data[index]!
      column.push(value)
      if (column.length > POINTS_MAX) column.shift()
    }
    this.#plot?.setData(this.#data as uPlot.AlignedData)
  }

  #make(): void {
    this.#plot?.destroy()
    const colour = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()
    const axis = {
      stroke: colour('--muted'),
      grid: { stroke: colour('--line'), width: 1 },
      ticks: { stroke: colour('--line'), width: 1 },
    }
    this.#plot = new window.uPlot(
      {
        width: this.#root.clientWidth || 300,
        height: HEIGHT,
        legend: { show: false },
        cursor: { show: false },
        scales: {
          // From the first point on, but neither more nor less than can be read.
          x: {
            range: (_plot, min, max) => {
              const now = max ?? Date.now() / 1000
              return [Math.min(Math.max(min ?? now, now - SHOWN_MAX_S), now - SHOWN_MIN_S), now]
            },
          },
          y: { range: (_plot, _min, max) => [0, Math.max(max * 1.1, 1)] },
        },
        axes: [
          { ...axis, values: (_plot, ticks) => ticks.map((tick) => clock(new Date(tick * 1000))) },
          { ...axis, size: 60 },
        ],
        series: [
          {},
          ...this.#series.map(({ label, colour: name }) => ({
            label,
            stroke: colour(name),
            width: 2,
            spanGaps: false,
            // Between two gaps there is no line, only the point.
            points: { show: true, size: 4 },
          })),
        ],
      },
      this.#data as uPlot.AlignedData,
      this.#root,
    )
  }
}
