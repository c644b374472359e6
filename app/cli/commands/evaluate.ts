/** `lathe eval`: perplexity, drift from a baseline, and tasks, on given files or on the bundled ones; tasks also on any OpenAI-compatible address. */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { basename, extname, join, resolve } from 'node:path'
import { LatheError } from '../../../engine/contract/index.ts'
import type { DriftResult, PerplexityResult, TaskResult } from '../../../engine/contract/index.ts'
import { modelFingerprint } from '../../../engine/evaluate/model-fingerprint.ts'
import { planProbes, readList } from '../../../engine/evaluate/probes/probe-work.ts'
import type { ProbeWork } from '../../../engine/evaluate/probes/probe-work.ts'
import { measureDrift, measurePerplexity } from '../../../engine/evaluate/perplexity.ts'
import type { TextSample } from '../../../engine/evaluate/perplexity.ts'
import { findPublishedResults } from '../../../engine/evaluate/published-results.ts'
import { OpenAiClient } from '../../../engine/evaluate/remote/openai-client.ts'
import { connectRemoteTarget } from '../../../engine/evaluate/remote/remote-target.ts'
import { lmEvalResults, writeLmEvalFiles } from '../../../engine/evaluate/results-file.ts'
import { openEvaluationCache } from '../../../engine/evaluate/tasks/cache.ts'
import { createLocalTarget } from '../../../engine/evaluate/tasks/local-target.ts'
import { openTaskFile } from '../../../engine/evaluate/tasks/open-tasks.ts'
import { fewshotCount, prepareItems } from '../../../engine/evaluate/tasks/prompts.ts'
import type { PromptOptions } from '../../../engine/evaluate/tasks/prompts.ts'
import { loadDocuments } from '../../../engine/evaluate/tasks/run-task.ts'
import type { EvaluationTarget } from '../../../engine/evaluate/tasks/target.ts'
import type { TaskConfig, TaskFile } from '../../../engine/evaluate/tasks/task-config.ts'
import type { ModelLease } from '../../../engine/runtime/types.ts'
import { EvaluationData } from '../../../engine/studio/jobs/evaluation-plan.ts'
import type { FolderTokenizer, ModelRef } from '../../../engine/studio/ports.ts'
import type { Arguments } from '../arguments.ts'
import { assetsFolder, latheVersion } from '../assets.ts'
import type { Command, CommandContext } from '../command.ts'
import { formatTable } from '../format.ts'
import { measureTasks, taskJson } from './evaluate-tasks.ts'
import type { MeasuredTasks, TaskBaseline } from './evaluate-tasks.ts'
import { acquire, modelAt } from './with-model.ts'

const DEFAULT_WINDOW = 512
const PROTOCOLS = ['rolling', 'gptq', 'llamacpp'] as const
const DEFAULT_MARGIN = 0.01
const API_KEY_VARIABLE = 'LATHE_API_KEY'

interface Subjects {
  readonly model: ModelLease
  readonly ref: ModelRef
  readonly baseline: { readonly lease: ModelLease; readonly ref: ModelRef } | null
  readonly codec: FolderTokenizer
}

export const evaluate: Command = {
  usage:
    'lathe eval <folder>|<url> [--baseline <folder>|<url>|<results>] [--perplexity <txt>] [--protocol rolling|gptq|llamacpp] [--window N] [--windows N] [--tasks <yaml|jsonl>]… [--robustness] [--probe <jsonl|csv>]… [--limit N] [--num-fewshot N] [--chat-template] [--margin D] [--out FOLDER]',
  summary: 'perplexity, drift from a baseline, tasks',
  options: {
    baseline: {
      type: 'string',
      value: 'WHAT',
      help: 'the original (folder: adds drift and paired comparisons), an address, or published results: results_….json or its folder',
    },
    perplexity: { type: 'string', value: 'TXT', help: 'text to measure on' },
    protocol: { type: 'string', value: 'NAME', help: `${PROTOCOLS.join(', ')} (rolling)` },
    window: { type: 'string', value: 'N', help: `tokens per window (${DEFAULT_WINDOW}, or what the model holds)` },
    windows: { type: 'string', value: 'N', help: 'score only the first N windows' },
    tasks: { type: 'string', multiple: true, value: 'FILE', help: 'lm-eval’s YAML, or JSON lines; may be repeated' },
    robustness: { type: 'boolean', help: 'ask the tasks in other words too: typing mistakes, case, spaces, order of the choices' },
    probe: {
      type: 'string',
      multiple: true,
      value: 'FILE',
      help: 'your own list: BBQ, CrowS-Pairs or {a, b, group} (fairness), {prompt, label: safe|unsafe} (refusal); may be repeated',
    },
    limit: { type: 'string', value: 'N', help: 'items per task and list' },
    'num-fewshot': { type: 'string', value: 'N', help: 'examples per prompt (what the task says)' },
    'chat-template': { type: 'boolean', help: 'ask through the model’s chat template' },
    'fewshot-single-turn': { type: 'boolean', help: 'with --chat-template: all examples in one turn' },
    system: { type: 'string', value: 'TEXT', help: 'system instruction' },
    margin: { type: 'string', value: 'D', help: `loss that is still accepted, for the verdict (${DEFAULT_MARGIN})` },
    out: { type: 'string', value: 'FOLDER', help: 'write results_….json and samples_….jsonl in lm-eval’s form' },
    cache: { type: 'string', value: 'FILE', help: 'keep answers here, so that a stopped run goes on' },
    model: { type: 'string', value: 'NAME', help: 'for an address: the model’s name (the only one served)' },
    'api-key': { type: 'string', value: 'K', help: `for an address: its key (${API_KEY_VARIABLE})` },
    bundled: { type: 'boolean', help: 'use the bundled text and tasks (the default when neither is given)' },
  },
  async run(args, context) {
    const began = new Date()
    const where = args.onlyPositional('model folder or address')
    const prompts: PromptOptions = {
      fewshot: args.integer('num-fewshot', { min: 0 }),
      chatTemplate: args.flag('chat-template'),
      fewshotAsMultiturn: !args.flag('fewshot-single-turn'),
      systemInstruction: args.text('system'),
    }
    const limit = args.integer('limit', { min: 1 })
    const margin = args.number('margin', { min: 0, max: 1 }) ?? DEFAULT_MARGIN
    const protocol = args.oneOf('protocol', PROTOCOLS, 'rolling')
    const taskPaths = args.texts('tasks')
    const textPath = args.text('perplexity')
    const isRemote = isAddress(where)
    const probeFiles = args.texts('probe').map((path) => resolve(path))
    if (isRemote && (textPath !== null || args.flag('bundled') || (taskPaths.length === 0 && probeFiles.length === 0))) {
      throw args.invalid(
        'On an address only tasks are measured.',
        'Give --tasks; perplexity of a text is the task file {"text": …} in JSON lines.',
      )
    }
    const cachePath = args.text('cache')
    const cache = cachePath === null ? null : await openEvaluationCache(resolve(cachePath))
    const file = await readTasks(taskPaths)
    const plan = { prompts, limit, margin, cache }
    const probesOf = (tasks: readonly TaskConfig[]) => planProbes(args.flag('robustness') ? ['robustness'] : [], probeFiles, tasks)
    if (isRemote) {
      const target = await remoteTarget(context, args, where)
      const baseline = await remoteOrPublished(context, args)
      const tasks = await measureTasks(context, target, baseline, { ...plan, file, probes: await probesOf(file.tasks) })
      context.progress(null)
      const written = await writeOut(
        args,
        tasks,
        {
          name: target.name,
          path: where,
          device: 'remote',
          contextLimit: null,
          dtype: 'unknown',
          parameters: null,
          tokens: NO_TOKENS,
          studio: { protocol: target.protocol },
        },
        { prompts, limit, began },
      )
      return {
        json: {
          model: where,
          adapter: 'remote',
          lathe_version: latheVersion(),
          baseline: args.text('baseline'),
          perplexity: null,
          drift: null,
          tasks: tasks.results.map((result) => taskJson(result, tasks.baseline.get(result.name) ?? null)),
          files: written,
        },
        text: `${describe(null, tasks)}\n${target.name} at ${where}`,
      }
    }
    const ref = await modelAt(where)
    const baselinePath = args.text('baseline')
    const baselineIsFolder = baselinePath !== null && !isAddress(baselinePath) && !(await isPublished(baselinePath))
    const baselineRef = baselineIsFolder ? await modelAt(baselinePath) : null
    const wantedWindow = args.integer('window', { min: 2 })
    const maxWindows = args.integer('windows', { min: 1 })
    const { text, tasks: all } = await withBundled(
      { text: textPath === null ? null : await sampleAt(textPath), file },
      ref,
      args.flag('bundled'),
      probeFiles.length > 0 && !args.flag('robustness'),
    )
    const probes = await probesOf(all.tasks)
    const { gpu, tokenizers, checkpoint } = await context.engine()
    const adapter = await gpu.current()
    const codec = await tokenizers.open(ref.folder)
    const contextTokens = Math.max(
      (wantedWindow ?? DEFAULT_WINDOW) + 1,
      await longestRequest(codec, all, plan),
      await longestProbe(codec, probes, plan),
    )
    using model = await acquire(context, ref, { contextTokens })
    using baseline = baselineRef === null ? null : await acquire(context, baselineRef, { contextTokens })
    // a window that was not asked for is cut to what the model can hold; one that was is refused by the runtime, with the numbers
    const window = wantedWindow ?? Math.min(DEFAULT_WINDOW, model.runtime.info.contextLimit)
    const subjects: Subjects = {
      model,
      ref,
      codec,
      baseline: baseline === null || baselineRef === null ? null : { lease: baseline, ref: baselineRef },
    }
    const measured = text === null ? null : await measureText(context, subjects, text, { protocol, window, maxWindows })
    const target = await localTarget(context, model, ref)
    const other: TaskBaseline | null =
      subjects.baseline === null
        ? await remoteOrPublished(context, args)
        : {
            kind: 'target',
            id: subjects.baseline.ref.modelId,
            target: await localTarget(context, subjects.baseline.lease, subjects.baseline.ref),
          }
    const isAsked = all.tasks.length > 0 || probes.length > 0
    const tasks = isAsked ? await measureTasks(context, target, other, { ...plan, file: all, probes }) : NO_TASKS
    context.progress(null)
    const perplexity = measured === null ? null : perplexityJson(measured.perplexity)
    const drift = measured === null || measured.drift === null ? null : driftJson(measured.drift)
    const written =
      args.text('out') === null
        ? []
        : await writeOut(
            args,
            tasks,
            {
              name: basename(ref.folder),
              path: ref.folder,
              device: adapter.name,
              contextLimit: model.runtime.info.contextLimit,
              dtype: (await checkpoint.inspect(ref.folder)).scheme,
              parameters: (await checkpoint.inspect(ref.folder)).parameters,
              tokens: tokensOf(codec),
              studio: { protocol: target.protocol, perplexity, drift },
            },
            { prompts, limit, began },
          )
    return {
      json: {
        model: ref.folder,
        adapter: adapter.name,
        driver: adapter.driver,
        lathe_version: latheVersion(),
        baseline: baselineRef?.folder ?? baselinePath,
        perplexity,
        baseline_perplexity: measured === null || measured.baseline === null ? null : perplexityJson(measured.baseline),
        drift,
        tasks: tasks.results.map((result) => taskJson(result, tasks.baseline.get(result.name) ?? null)),
        files: written,
      },
      text: `${describe(measured, tasks)}\n${ref.name} on ${adapter.name}`,
    }
  },
}

const NO_TASKS: MeasuredTasks = { results: [], baseline: new Map(), scored: [], groups: [] }
const NO_TOKENS = { pad: null, eos: null, bos: null }

function isAddress(where: string): boolean {
  return /^https?:\/\//.test(where)
}

/** A results file, or a folder that holds one and no model. */
async function isPublished(path: string): Promise<boolean> {
  if (extname(path) === '.json') return true
  return !existsSync(join(path, 'config.json')) && (await findPublishedResults(resolve(path))) !== null
}

async function remoteTarget(context: CommandContext, args: Arguments, url: string): Promise<EvaluationTarget> {
  const client = new OpenAiClient({ url, apiKey: args.text('api-key') ?? process.env[API_KEY_VARIABLE] ?? null })
  const model = await client.pick(args.text('model'), context.signal)
  return connectRemoteTarget({ client, model, name: model.id, signal: context.signal })
}

/** A baseline that is no folder. */
async function remoteOrPublished(context: CommandContext, args: Arguments): Promise<TaskBaseline | null> {
  const baseline = args.text('baseline')
  if (baseline === null) return null
  if (isAddress(baseline)) return { kind: 'target', id: baseline, target: await remoteTarget(context, args, baseline) }
  if (await isPublished(baseline)) return { kind: 'published', id: baseline, path: resolve(baseline) }
  throw args.invalid('The baseline of an address is another address, or published results: results_….json or its folder.')
}

async function localTarget(context: CommandContext, lease: ModelLease, ref: ModelRef): Promise<EvaluationTarget> {
  const { tokenizers } = await context.engine()
  const codec = await tokenizers.open(ref.folder)
  return createLocalTarget({ name: ref.name, runtime: lease.runtime, codec, modelFingerprint: await modelFingerprint(ref.folder) })
}

async function readTasks(paths: readonly string[]): Promise<TaskFile> {
  const files = await Promise.all(paths.map((path) => openTaskFile(resolve(path))))
  return { tasks: files.flatMap(({ tasks }) => tasks), groups: files.flatMap(({ groups }) => groups) }
}

/** The bundled text and tasks where nothing else was asked for; what only the demo model can know is asked of its family only. */
async function withBundled(
  given: { readonly text: TextSample | null; readonly file: TaskFile },
  model: ModelRef,
  bundled: boolean,
  hasLists: boolean,
): Promise<{ readonly text: TextSample | null; readonly tasks: TaskFile }> {
  if (!bundled && (given.text !== null || given.file.tasks.length > 0 || hasLists)) return { text: given.text, tasks: given.file }
  const folder = join(assetsFolder(), 'demo-eval')
  const data = new EvaluationData(folder)
  const names = data.taskNames(await isDemoFamily(model.folder))
  const own = await readTasks(names.map((name) => join(folder, `${name}.jsonl`)))
  return { text: given.text ?? (await data.text()), tasks: { tasks: [...given.file.tasks, ...own.tasks], groups: given.file.groups } }
}

/** Variants keep their source's tokenizer, and nobody else has the demo model's. */
async function isDemoFamily(folder: string): Promise<boolean> {
  const own = await tokenizerDigest(folder)
  return own !== null && own === (await tokenizerDigest(join(assetsFolder(), 'demo-model')))
}

async function tokenizerDigest(path: string): Promise<string | null> {
  const bytes = await readFile(join(path, 'tokenizer.json')).catch(() => null)
  return bytes === null ? null : createHash('sha256').update(bytes).digest('hex')
}

async function sampleAt(path: string): Promise<TextSample> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw new LatheError('evaluate.invalid-data', `${path} can't be read.`, 'Check the path.', { cause: error })
  })
  return { name: basename(path, extname(path)), text }
}

/** Tokens of the longest prompt with its answer, for a context that holds it. */
async function longestRequest(
  codec: FolderTokenizer,
  file: TaskFile,
  plan: { readonly prompts: PromptOptions; readonly limit: number | null },
): Promise<number> {
  let longest = 0
  const target = {
    name: 'the model',
    renderChat: (turns: readonly { readonly role: string; readonly content: string }[]) => codec.renderChat(turns),
  }
  for (const task of file.tasks) {
    // Rolling windows are cut to whatever context there is.
    if (task.outputType === 'loglikelihood_rolling') continue
    const documents = await loadDocuments(task, plan.limit, fewshotCount(task, plan.prompts))
    const room = task.outputType === 'generate_until' ? task.generation.maxTokens : 0
    for (const item of prepareItems(task, documents, target, plan.prompts)) {
      for (const context of item.contexts) {
        const continuation = item.continuations.reduce((a, b) => (a.length >= b.length ? a : b), '')
        longest = Math.max(longest, codec.encode(context + continuation, { addSpecialTokens: false }).length + room + 1)
      }
    }
  }
  return longest
}

/** What other words add to the longest prompt, and a template to an item of a list with its answer. */
const MORE_TOKENS = { robustness: 64, list: 192 } as const

async function longestProbe(
  codec: FolderTokenizer,
  probes: readonly ProbeWork[],
  plan: { readonly prompts: PromptOptions; readonly limit: number | null },
): Promise<number> {
  let longest = 0
  for (const work of probes) {
    if (work.kind === 'robustness') {
      longest = Math.max(longest, (await longestRequest(codec, { tasks: [work.task], groups: [] }, plan)) + MORE_TOKENS.robustness)
      continue
    }
    for (const doc of await readList(work.path, plan.limit)) {
      const texts = Object.values(doc).filter((value) => typeof value === 'string')
      longest = Math.max(longest, codec.encode(texts.join(' '), { addSpecialTokens: false }).length + MORE_TOKENS.list)
    }
  }
  return longest
}

interface TextMeasurement {
  readonly perplexity: PerplexityResult
  readonly baseline: PerplexityResult | null
  readonly drift: DriftResult | null
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

function tokensOf(codec: FolderTokenizer) {
  const byRole = (role: string): readonly [string, number] | null => {
    const token = codec.info.specialTokens.find((candidate) => candidate.role === role)
    return token === undefined ? null : [token.text, token.id]
  }
  return { pad: byRole('pad'), eos: byRole('eos'), bos: byRole('bos') }
}

interface OutFacts {
  readonly name: string
  readonly path: string
  readonly device: string
  readonly contextLimit: number | null
  readonly dtype: string
  readonly parameters: number | null
  readonly tokens: ReturnType<typeof tokensOf>
  readonly studio: Readonly<Record<string, unknown>>
}

async function writeOut(
  args: Arguments,
  tasks: MeasuredTasks,
  facts: OutFacts,
  run: { readonly prompts: PromptOptions; readonly limit: number | null; readonly began: Date },
): Promise<string[]> {
  const folder = args.text('out')
  if (folder === null) return []
  const results = lmEvalResults(
    {
      ...facts,
      modelName: facts.name,
      modelPath: facts.path,
      latheVersion: latheVersion(),
      platform: `${process.platform} ${process.arch}`,
      limit: run.limit,
      chatTemplate: run.prompts.chatTemplate ? 'default' : null,
      systemInstruction: run.prompts.systemInstruction,
      fewshotAsMultiturn: run.prompts.chatTemplate && run.prompts.fewshotAsMultiturn,
      startedAt: run.began,
      seconds: (Date.now() - run.began.getTime()) / 1000,
    },
    tasks.scored,
    tasks.groups,
  )
  return writeLmEvalFiles(resolve(folder), results, tasks.scored, run.began)
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
    kld_p95: drift.kldP95,
    kld_p99: drift.kldP99,
    kld_max: drift.kldMax,
    top1_agreement: drift.top1Agreement,
    flips: drift.flips,
    delta_p_mean: drift.deltaPMean,
    delta_p_rms: drift.deltaPRms,
    log_perplexity_ratio: drift.logPerplexityRatio,
    log_perplexity_ratio_standard_error: drift.logPerplexityRatioStandardError,
    tokens: drift.tokens,
  }
}

function describe(measured: TextMeasurement | null, tasks: MeasuredTasks): string {
  const rows: string[][] = [['Measure', 'Value', 'Baseline', 'n', 'Verdict']]
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
  for (const result of tasks.results) {
    const other = tasks.baseline.get(result.name) ?? null
    const isShare = result.chance !== null || /^acc|^exact_match$|^consistency$|_unsafe$|_safe$/.test(result.metric)
    const figure = isShare ? percent : (value: number | null) => show(value, 4)
    rows.push([
      result.outputType === 'probe'
        ? result.title
        : `${result.task ?? result.name} (${result.metric}${result.filter === 'none' ? '' : `, ${result.filter}`})`,
      `${figure(result.value)} ± ${figure(result.standardError)}`,
      other === null ? '' : figure(other.value),
      `${result.n} items`,
      verdictText(result),
    ])
  }
  return formatTable(rows)
}

/** "inconclusive, needs about 900 items; shows differences from 4.4 %" */
function verdictText({ paired }: TaskResult): string {
  if (paired === null || paired.verdict === null || paired.margin === null) return ''
  const needs = paired.itemsNeeded === null ? '' : `, needs about ${paired.itemsNeeded} items`
  const detectable =
    paired.minimumDetectableDifference === null ? '' : `; shows differences from ${percent(paired.minimumDetectableDifference)}`
  return `${paired.verdict} at ${percent(paired.margin)}${needs}${detectable}${paired.pairing === 'unpaired' ? ' (unpaired)' : ''}`
}

function show(value: number | null, digits = 5): string {
  return value === null ? 'n/a' : value.toPrecision(digits)
}

function percent(value: number | null): string {
  return value === null ? 'n/a' : `${(value * 100).toFixed(1)} %`
}
