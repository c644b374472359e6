/**
 * How often the 95 % intervals of a recovery hold the truth: the score interval, which right and wrong answers get, and the bootstrap, which everything
 * else gets. Ends with 1 where one is outside 93 to 97 %.
 *   node engine/evaluate/bench/coverage.ts [trials] [seed]
 * Each trial draws 300 items of which 70 % are right with the baseline, 6 % of all are lost and 2 % gained: the true recovery is 66 / 70.
 */
import { createIndexSampler } from '../random.ts'
import { bootstrapPaired, ratioInterval } from '../recovery.ts'

const ITEMS = 300
const TRUTH = 66 / 70
const RANGE = { least: 0.93, most: 0.97 } as const
const trials = Number(process.argv[2] ?? 10_000)
const seed = Number(process.argv[3] ?? 2026)

type Interval = (baseline: readonly number[], candidate: readonly number[], seed: number) => [number, number] | null

const bootstrapped =
  (resamples: number): Interval =>
  (baseline, candidate, own) =>
    bootstrapPaired(baseline, candidate, (b, c) => c / b, { seed: own, resamples })

const METHODS: Readonly<Record<string, Interval>> = {
  'score interval': (baseline, candidate) => {
    const count = (b: number, c: number): number => baseline.filter((value, i) => value === b && candidate[i] === c).length
    return ratioInterval({ both: count(1, 1), lost: count(1, 0), gained: count(0, 1), n: baseline.length })
  },
  'bootstrap, 400 resamples': bootstrapped(400),
  'bootstrap, 1000 resamples': bootstrapped(1000),
}

const share = (part: number): string => `${(100 * part).toFixed(2)} %`
const error = (100 * Math.sqrt(0.05 * 0.95)) / Math.sqrt(trials)
console.log(`${trials} trials of ${ITEMS} items, seed ${seed}; the standard error of a share is ${error.toFixed(2)} %\n`)
console.log('| interval | held the truth | above it | below it |\n|---|--:|--:|--:|')
for (const [name, interval] of Object.entries(METHODS)) {
  const pick = createIndexSampler(seed)
  let above = 0
  let below = 0
  for (let trial = 0; trial < trials; trial++) {
    const baseline: number[] = []
    const candidate: number[] = []
    for (let item = 0; item < ITEMS; item++) {
      const u = pick(2 ** 32) / 2 ** 32
      baseline.push(Number(u < 0.7))
      candidate.push(Number(u >= 0.06 && u < 0.72))
    }
    const found = interval(baseline, candidate, pick(2 ** 32))
    if (found === null) throw new Error('no interval')
    if (found[0] > TRUTH) above++
    if (found[1] < TRUTH) below++
  }
  const held = (trials - above - below) / trials
  console.log(`| ${name} | ${share(held)} | ${share(above / trials)} | ${share(below / trials)} |`)
  if (held < RANGE.least || held > RANGE.most) process.exitCode = 1
}
