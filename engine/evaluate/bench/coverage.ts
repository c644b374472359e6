/**
 * `node engine/evaluate/bench/coverage.ts [trials] [seed]`: how often the bootstrap's 95 % interval of a recovery holds the truth. Too long for the
 * tests, which look at 1200 trials and so can't tell 94 from 95 %. Each trial draws 300 items of which 70 % are right with the baseline, 6 % of all
 * are lost and 2 % gained: the true recovery is 66 / 70.
 */
import { bootstrapPaired } from '../paired.ts'
import { createIndexSampler } from '../random.ts'

const ITEMS = 300
const TRUTH = 66 / 70
const trials = Number(process.argv[2] ?? 10_000)
const seed = Number(process.argv[3] ?? 2026)
const pick = createIndexSampler(seed)

console.log(
  `${trials} trials of ${ITEMS} items, seed ${seed}; the standard error of a share is ${((100 * Math.sqrt(0.05 * 0.95)) / Math.sqrt(trials)).toFixed(2)} %`,
)
console.log('| resamples | held the truth | above it | below it |\n|--:|--:|--:|--:|')
for (const resamples of [400, 1000]) {
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
    const interval = bootstrapPaired(baseline, candidate, (b, c) => c / b, { seed: pick(2 ** 32), resamples })
    if (interval === null) throw new Error('no interval')
    if (interval[0] > TRUTH) above++
    if (interval[1] < TRUTH) below++
  }
  const share = (count: number): string => `${((100 * count) / trials).toFixed(2)} %`
  console.log(`| ${resamples} | ${share(trials - above - below)} | ${share(above)} | ${share(below)} |`)
}
