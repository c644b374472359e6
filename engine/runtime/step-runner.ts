/**
 * A plan on the device: laid out as one ragged batch, run under the watchdog, and where something in it is not finite run again request by
 * request to tell whose. Knows neither what the rows mean (samples.ts) nor who comes next (scheduler.ts).
 */
import type { Executable, StepInput, StepOutput } from '../gpu/program.ts'
import type { PlannedRequest, StepPlan } from './scheduler.ts'
import { StepBuilder } from './step-builder.ts'
import type { Request } from './request.ts'
import { asError } from './core-errors.ts'
import { rowAdjustments } from './token-rules.ts'
import type { StepWatchdog } from './watchdog.ts'

export interface StepResult {
  readonly plan: StepPlan
  readonly output: StepOutput
}

/** A request whose output constraint failed while its rows were planned. */
export interface BrokenRequest {
  readonly request: Request
  readonly error: Error
}

export class StepRunner {
  readonly #executable: Executable
  readonly #watchdog: StepWatchdog
  readonly #builder: StepBuilder

  constructor(executable: Executable, blockSize: number, watchdog: StepWatchdog) {
    this.#executable = executable
    this.#watchdog = watchdog
    this.#builder = new StepBuilder(executable.capacity, blockSize)
  }

  /** Valid until the next one is built. */
  build(plan: StepPlan): StepInput {
    return this.#builder.build(plan)
  }

  /** Rejects with what the step throws, or `gpu.device-lost` where it hangs. */
  run(plan: StepPlan, input: StepInput): Promise<StepOutput> {
    return this.#watchdog.watch(plan.tokens, this.#executable.step(input))
  }

  observe(tokens: number, milliseconds: number): void {
    this.#watchdog.observe(tokens, milliseconds)
  }

  /**
   * A step says only that some row was not finite. Repeating it request by request writes the same bytes to the same slots and tells whose
   * row it was, so that the others go on.
   */
  async isolate(plan: StepPlan): Promise<StepResult[]> {
    const results: StepResult[] = []
    for (const entry of plan.entries) {
      const alone = { entries: [entry], tokens: entry.count, rows: entry.rows }
      results.push({ plan: alone, output: await this.run(alone, this.build(alone)) })
    }
    return results
  }
}

/** Adds to the plan what the requests' rules make of its rows; the same plan where none has any. Names those whose constraint failed. */
export async function withRules(plan: StepPlan): Promise<{ readonly plan: StepPlan; readonly broken: readonly BrokenRequest[] }> {
  if (!plan.entries.some(({ request, rows }) => request.rules !== null && rows > 0)) return { plan, broken: [] }
  const entries: PlannedRequest[] = []
  const broken: BrokenRequest[] = []
  for (const entry of plan.entries) {
    const { request, rows } = entry
    if (request.rules === null || rows === 0) {
      entries.push(entry)
      continue
    }
    const { id, tokens, tokenCount, promptCount } = request
    try {
      const drafts = tokens.subarray(tokenCount, tokenCount + rows - 1)
      const adjustments = await rowAdjustments({ id, state: request.rules, tokens, tokenCount, promptCount }, drafts)
      entries.push({ ...entry, adjustments })
    } catch (thrown) {
      broken.push({ request, error: asError(thrown) })
    }
  }
  return { plan: { ...plan, entries }, broken }
}
