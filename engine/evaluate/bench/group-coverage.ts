/**
 * Whether the comparison of a group of tasks keeps what it promises: how far its standard error is from the spread that the differences really have, how
 * often the 95 % interval holds the truth, and how often a loss of exactly the margin is called non-inferior. Ends with 1 where the error is off by more
 * than 5 %, an interval holds less than 93 %, or more than 5.5 % of such verdicts are wrong.
 *   node engine/evaluate/bench/group-coverage.ts [trials] [seed]
 */
import { verdictOfFlips, tangoInterval } from '../flips.ts'
import { createIndexSampler } from '../random.ts'

const MARGIN = 0.02
const LIMITS = { error: 0.05, held: 0.93, wrong: 0.055 } as const
const trials = Number(process.argv[2] ?? 10_000)
const seed = Number(process.argv[3] ?? 2026)

interface Task {
  readonly n: number
  /** Of all items: only the baseline right, only the candidate. */
  readonly lost: number
  readonly gained: number
}

const alike = (count: number, task: Task): Task[] => Array.from({ length: count }, () => task)

const UNEQUAL: readonly Task[] = [
  { n: 1000, lost: 0.03, gained: 0.01 },
  { n: 200, lost: 0.05, gained: 0.03 },
  { n: 50, lost: 0.11, gained: 0.09 },
]

/** Every group loses exactly the margin under its weights, or the rates of the last tasks are moved until it does. */
const GROUPS: readonly { readonly name: string; readonly bySize: boolean; readonly tasks: readonly Task[] }[] = [
  { name: '4 tasks of 250, 6 % flips, by size', bySize: true, tasks: alike(4, { n: 250, lost: 0.04, gained: 0.02 }) },
  { name: '57 tasks of 20, 10 % flips, each alike', bySize: false, tasks: alike(57, { n: 20, lost: 0.06, gained: 0.04 }) },
  { name: '57 tasks of 5, 2 % flips, each alike', bySize: false, tasks: alike(57, { n: 5, lost: 0.02, gained: 0 }) },
  {
    name: 'sizes 1000, 200, 50, flips 4, 8, 20 %, by size',
    bySize: true,
    tasks: UNEQUAL,
  },
  {
    name: 'the same, each alike',
    bySize: false,
    tasks: UNEQUAL,
  },
  {
    name: 'one of 5 tasks of 200 takes the whole loss of 10 points',
    bySize: true,
    tasks: [...alike(4, { n: 200, lost: 0.01, gained: 0.01 }), { n: 200, lost: 0.12, gained: 0.02 }],
  },
  {
    name: 'as much up as down: +6 and −10 points, each alike',
    bySize: false,
    tasks: [
      { n: 150, lost: 0.02, gained: 0.08 },
      { n: 150, lost: 0.12, gained: 0.02 },
    ],
  },
]

const percent = (share: number): string => `${(100 * share).toFixed(2)} %`
const noise = (100 * Math.sqrt(0.05 * 0.95)) / Math.sqrt(trials)
console.log(
  `${trials} trials a group, a loss of exactly the margin of ${percent(MARGIN)}, seed ${seed}; the error of a share is ${noise.toFixed(2)} %\n`,
)
console.log(
  '| group | standard error / true spread | interval held the truth | above it | below it | wrongly non-inferior |\n|---|--:|--:|--:|--:|--:|',
)
for (const { name, bySize, tasks } of GROUPS) {
  const items = tasks.reduce((sum, { n }) => sum + n, 0)
  const weights = tasks.map(({ n }) => (bySize ? n / items : 1 / tasks.length))
  const truth = tasks.reduce((sum, { lost, gained }, i) => sum + (weights[i] ?? 0) * (gained - lost), 0)
  if (Math.abs(truth + MARGIN) > 1e-9) throw new Error(`${name} loses ${-truth}, not ${MARGIN}`)
  const pick = createIndexSampler(seed)
  const seen: number[] = []
  let variances = 0
  let above = 0
  let below = 0
  let passed = 0
  for (let trial = 0; trial < trials; trial++) {
    let difference = 0
    let variance = 0
    const strata = tasks.map((task, i) => {
      const weight = weights[i] ?? 0
      let lost = 0
      let gained = 0
      for (let item = 0; item < task.n; item++) {
        const u = pick(2 ** 32) / 2 ** 32
        if (u < task.lost) lost++
        else if (u < task.lost + task.gained) gained++
      }
      const mean = (gained - lost) / task.n
      difference += weight * mean
      variance += (weight ** 2 * ((gained + lost) / task.n - mean ** 2)) / (task.n - 1)
      return { lost, gained, n: task.n, weight }
    })
    seen.push(difference)
    variances += variance
    const [low, high] = tangoInterval(strata)
    if (low > truth) above++
    if (high < truth) below++
    if (verdictOfFlips(strata, MARGIN) === 'non-inferior') passed++
  }
  const mean = seen.reduce((sum, value) => sum + value, 0) / trials
  const spread = Math.sqrt(seen.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (trials - 1))
  const ratio = Math.sqrt(variances / trials) / spread
  const held = (trials - above - below) / trials
  console.log(
    `| ${name} | ${ratio.toFixed(3)} | ${percent(held)} | ${percent(above / trials)} | ${percent(below / trials)} | ${percent(passed / trials)} |`,
  )
  if (Math.abs(ratio - 1) > LIMITS.error || held < LIMITS.held || passed / trials > LIMITS.wrong) process.exitCode = 1
}
