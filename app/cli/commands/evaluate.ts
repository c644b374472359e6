/** `lathe eval`: perplexity, drift from a baseline, and multiple-choice tasks, on given files or on the bundled ones. */
import { readFile } from 'node:fs/promises'
import { basename, extname } from 'node:path'
import { LatheError } from '../../../engine/contract/index.ts'
import type { DriftResult, PerplexityResult, TaskResult } from '../../../engine/contract/index.ts'
import { answerChoiceTask, parseChoiceTask, scoreChoiceTask } from '../../../engine/evaluate/choice-task.ts'
import type { ChoiceTask } from '../../../engine/evaluate/choice-task.ts'
import { measureDrift, measurePerplexity } from '../../../engine/evaluate/perplexity.ts'
import type { TextSample } from '../../../engine/evaluate/perplexity.ts'
import type { ModelLease } from '../../../engine/runtime/types.ts'
import { EvaluationData } from '../../../engine/studio/jobs/evaluation-plan.ts'
import type { FolderTokenizer, ModelRef } from '../../../engine/studio/ports.ts'
import { assetsFolder, latheVersion } from '../assets.ts'
import type { Command, CommandContext } from '../command.ts'
import { formatTable } from '../format.ts'
import { acquire, modelAt } from './with-model.ts'

const DEFAULT_WINDOW = 512
const PROTOCOLS = ['rolling', 'gptq', 'llamacpp'] as const

interface Subjects {
  readonly model: ModelLease
  readonly baseline: { readonly lease: ModelLease; readonly ref: ModelRef } | null
  readonly codec: FolderTokenizer
}

export const evaluate: Command = {
  usage:
    'lathe eval <folder> [--baseline <folder>] [--perplexity <txt>] [--protocol rolling|gptq|llamacpp] [--window N] [--windows N] [--tasks <jsonl>]… [--limit N]',
  summary: 'perplexity, drift from a baseline, tasks',
  options: {
    baseline: { type: 'string', value: 'FOLDER', help: 'the original: adds drift and paired comparisons' },
    perplexity: { type: 'string', value: 'TXT', help: 'text to measure on' },
    protocol: { type: 'string', value: 'NAME', help: `${PROTOCOLS.join(', ')} (rolling)` },
    window: { type: 'string', value: 'N', help: `tokens per window (${DEFAULT_WINDOW}, or what the model holds)` },
    windows: { type: 'string', value: 'N', help: 'score only the first N windows' },
    tasks: { type: 'string', multiple: true, value: 'JSONL', help: 'task file with {query, choices, gold} lines; may be repeated' },
    limit: { type: 'string', value: 'N', help: 'items per task' },
    bundled: { type: 'boolean', help: 'use the bundled text and tasks (the default when neither is given)' },
  },
  async run(args, context) {
    const ref = await modelAt(args.onlyPositional('model folder'))
    const baselinePath = args.text('baseline')
    const baselineRef = baselinePath === null ? null : await modelAt(baselinePath)
    const limit = args.integer('limit', { min: 1 })
    const wantedWindow = args.integer('window', { min: 2 })
    const protocol = args.oneOf('protocol', PROTOCOLS, 'rolling')
    const maxWindows = args.integer('windows', { min: 1 })
    const { text, tasks } = await readData(args.text('perplexity'), args.texts('tasks'), limit, args.flag('bundled'))
    const { gpu, tokenizers } = await context.engine()
    const adapter = await gpu.current()
    const codec = await tokenizers.open(ref.folder)
    const contextTokens = Math.max((wantedWindow ?? DEFAULT_WINDOW) + 1, ...tasks.map((task) => longestItem(codec, task)))
    using model = await acquire(context, ref, { contextTokens })
    using baseline = baselineRef === null ? null : await acquire(context, baselineRef, { contextTokens })
    // a window that was not asked for is cut to what the model can hold; one that was is refused by the runtime, with the numbers
    const window = wantedWindow ?? Math.min(DEFAULT_WINDOW, model.runtime.info.contextLimit)
    const subjects: Subjects = {
      model,
      codec,
      baseline: baseline === null || baselineRef === null ? null : { lease: baseline, ref: baselineRef },
    }
    const measured = text === null ? null : await measureText(context, subjects, text, { protocol, window, maxWindows })
    const results: { readonly result: TaskResult; readonly baseline: TaskResult | null }[] = []
    for (const task of tasks) results.push(await measureTask(context, subjects, task))
    context.progress(null)
    return {
      json: {
        model: ref.folder,
        adapter: adapter.name,
        driver: adapter.driver,
        lathe_version: latheVersion(),
        baseline: baselineRef?.folder ?? null,
        perplexity: measured === null ? null : perplexityJson(measured.perplexity),
        baseline_perplexity: measured?.baseline === undefined || measured.baseline === null ? null : perplexityJson(measured.baseline),
        drift: measured?.drift === undefined || measured.drift === null ? null : driftJson(measured.drift),
        tasks: results.map(({ result, baseline: other }) => taskJson(result, other)),
      },
      text: `${describe(measured, results)}\n${ref.name} on ${adapter.name}`,
    }
  },
}

interface TextMeasurement {
  readonly perplexity: PerplexityResult
  readonly baseline: PerplexityResult | null
  readonly drift: DriftResult | null
}

async function readData(
  textPath: string | null,
  taskPaths: readonly string[],
  limit: number | null,
  bundled: boolean,
): Promise<{ readonly text: TextSample | null; readonly tasks: readonly ChoiceTask[] }> {
  const tasks: ChoiceTask[] = []
  for (const path of taskPaths) {
    if (extname(path) === '.yaml' || extname(path) === '.yml') {
      throw new LatheError(
        'evaluate.invalid-data',
        `${path}: task definitions in YAML can't be read yet.`,
        'Give the items as JSON lines {query, choices, gold}.',
      )
    }
    const name = basename(path, extname(path))
    tasks.push(parseChoiceTask(name, name, await readText(path), limit))
  }
  let text = textPath === null ? null : { name: basename(textPath, extname(textPath)), text: await readText(textPath) }
  if (bundled || (text === null && tasks.length === 0)) {
    const data = new EvaluationData(`${assetsFolder()}/demo-eval`)
    text ??= await data.text()
    for (const name of data.taskNames(true)) tasks.push(await data.task(name, limit))
  }
  return { text, tasks }
}

async function readText(path: string): Promise<string> {
  return readFile(path, 'utf8').catch((error: unknown) => {
    throw new LatheError('evaluate.invalid-data', `${path} can't be read.`, 'Check the path.', { cause: error })
  })
}

/** Tokens of the longest question with an answer, for a context that holds it. */
function longestItem(codec: FolderTokenizer, task: ChoiceTask): number {
  let longest = 0
  for (const item of task.items) {
    for (const choice of item.choices)
      longest = Math.max(longest, codec.encode(item.query + choice, { addSpecialTokens: false }).length + 1)
  }
  return longest
}

async function measureText(
  context: CommandContext,
  { model, baseline, codec }: Subjects,
  sample: TextSample,
  protocol: { readonly protocol: (typeof PROTOCOLS)[number]; readonly window: number; readonly maxWindows: number | null },
): Promise<TextMeasurement> {
  const options = {
    ...protocol,
    signal: context.signal,
    onProgress: (done: number, total: number) => context.progress(`perplexity: ${done} of ${total} tokens`),
  }
  if (baseline === null) return { perplexity: await measurePerplexity(model.runtime, codec, sample, options), baseline: null, drift: null }
  const { models } = await context.engine()
  const pair = { baseline: baseline.lease.runtime, candidate: model.runtime, scorePair: models.scorePair, baselineId: baseline.ref.modelId }
  const measured = await measureDrift(pair, codec, sample, options)
  return { perplexity: measured.candidate, baseline: measured.baseline, drift: measured.drift }
}

async function measureTask(context: CommandContext, { model, baseline, codec }: Subjects, task: ChoiceTask) {
  const options = (who: string) => ({
    signal: context.signal,
    onProgress: (done: number, total: number) => context.progress(`${task.name}${who}: ${done} of ${total} items`),
  })
  const other = baseline === null ? null : await answerChoiceTask(baseline.lease.runtime, codec, task, options(' (baseline)'))
  const own = await answerChoiceTask(model.runtime, codec, task, options(''))
  return {
    result: scoreChoiceTask(own, baseline === null || other === null ? null : { id: baseline.ref.modelId, answers: other }),
    baseline: other === null ? null : scoreChoiceTask(other, null),
  }
}

function perplexityJson(result: PerplexityResult) {
  return {
    value: result.value,
    nll: result.nll,
    tokens: result.tokens,
    bits_per_byte: result.bitsPerByte,
    protocol: result.protocol,
    window: result.window,
    standard_error: result.standardError,
    dataset: result.dataset,
    note: result.note,
  }
}

function driftJson(drift: DriftResult) {
  return {
    kld_mean: drift.kldMean,
    kld_mean_standard_error: drift.kldMeanStandardError,
    kld_median: drift.kldMedian,
    kld_p90: drift.kldP90,
    kld_p99: drift.kldP99,
    kld_max: drift.kldMax,
    top1_agreement: drift.top1Agreement,
    delta_p_rms: drift.deltaPRms,
    tokens: drift.tokens,
  }
}

function taskJson(result: TaskResult, baseline: TaskResult | null) {
  return {
    name: result.name,
    metric: result.metric,
    value: result.value,
    stderr: result.standardError,
    n: result.n,
    interval: result.interval,
    chance: result.chance,
    dataset: result.dataset,
    baseline: baseline === null ? null : { value: baseline.value, stderr: baseline.standardError },
    paired:
      result.paired === null
        ? null
        : {
            difference: result.paired.difference,
            interval: result.paired.interval,
            recovery: result.paired.recovery,
            mcnemar_p: result.paired.mcnemarP,
          },
  }
}

function describe(
  measured: TextMeasurement | null,
  results: readonly { readonly result: TaskResult; readonly baseline: TaskResult | null }[],
): string {
  const rows: string[][] = [['Measure', 'Value', 'Baseline', 'n']]
  if (measured !== null) {
    const { perplexity, baseline, drift } = measured
    rows.push([
      `Perplexity (${perplexity.protocol}, ${perplexity.window})`,
      show(perplexity.value),
      baseline === null ? '' : show(baseline.value),
      `${perplexity.tokens} tokens`,
    ])
    rows.push(['Bits per byte', show(perplexity.bitsPerByte), baseline === null ? '' : show(baseline.bitsPerByte), ''])
    if (drift !== null) {
      rows.push(['KLD mean', `${show(drift.kldMean, 3)} ± ${show(drift.kldMeanStandardError, 2)}`, '', `${drift.tokens} tokens`])
      rows.push(['KLD 99 %', show(drift.kldP99, 3), '', ''])
      rows.push(['Top-1 agreement', percent(drift.top1Agreement), '', ''])
    }
  }
  for (const { result, baseline } of results) {
    rows.push([
      `${result.name} (${result.metric})`,
      `${percent(result.value)} ± ${percent(result.standardError)}`,
      baseline === null ? '' : percent(baseline.value),
      `${result.n} items`,
    ])
  }
  return formatTable(rows)
}

function show(value: number | null, digits = 5): string {
  return value === null ? 'n/a' : value.toPrecision(digits)
}

function percent(value: number | null): string {
  return value === null ? 'n/a' : `${(value * 100).toFixed(1)} %`
}
