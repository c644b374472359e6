/** `lathe eval`: perplexity, drift from a baseline, and tasks, on given files or on the bundled ones, of a folder or of any OpenAI-compatible address. */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { basename, extname, join, resolve } from 'node:path'
import { LatheError } from '../../../engine/contract/index.ts'
import { planProbes, readList } from '../../../engine/evaluate/probes/probe-work.ts'
import type { ProbeWork } from '../../../engine/evaluate/probes/probe-work.ts'
import { measureDrift, measurePerplexity } from '../../../engine/evaluate/perplexity.ts'
import type { TextSample } from '../../../engine/evaluate/perplexity.ts'
import { openEvaluationCache } from '../../../engine/evaluate/tasks/cache.ts'
import { openTaskFile } from '../../../engine/evaluate/tasks/open-tasks.ts'
import { fewshotCount, prepareItems } from '../../../engine/evaluate/tasks/prompts.ts'
import type { PromptOptions } from '../../../engine/evaluate/tasks/prompts.ts'
import { loadDocuments } from '../../../engine/evaluate/tasks/run-task.ts'
import type { TaskConfig, TaskFile } from '../../../engine/evaluate/tasks/task-config.ts'
import type { ModelLease } from '../../../engine/runtime/types.ts'
import { EvaluationData } from '../../../engine/studio/jobs/evaluation-plan.ts'
import type { FolderTokenizer, ModelRef } from '../../../engine/studio/ports.ts'
import { assetsFolder, latheVersion } from '../assets.ts'
import type { Command, CommandContext } from '../command.ts'
import { describe, measuredJson, NO_TASKS, NO_TOKENS, prepareOut, tokensOf, writeOut } from './evaluate-output.ts'
import type { TextMeasurement } from './evaluate-output.ts'
import { API_KEY_VARIABLE, isAddress, isPublished, localTarget, measureRemoteText, openSides, remoteOrPublished } from './evaluate-sides.ts'
import { measureTasks, taskJson } from './evaluate-tasks.ts'
import type { TaskBaseline } from './evaluate-tasks.ts'
import { acquire, modelAt } from './with-model.ts'

const DEFAULT_WINDOW = 512
const PROTOCOLS = ['rolling', 'gptq', 'llamacpp'] as const
const DEFAULT_MARGIN = 0.01

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
    if (isRemote && (args.flag('bundled') || (textPath === null && taskPaths.length === 0 && probeFiles.length === 0)))
      throw args.invalid('On an address nothing is measured by itself.', 'Give --perplexity with a text, --tasks or --probe.')
    await prepareOut(args)
    const cachePath = args.text('cache')
    const cache = cachePath === null ? null : await openEvaluationCache(resolve(cachePath))
    const file = await readTasks(taskPaths)
    const plan = { prompts, limit, margin, cache }
    const probesOf = (tasks: readonly TaskConfig[]) => planProbes(args.flag('robustness') ? ['robustness'] : [], probeFiles, tasks)
    if (isRemote) {
      const sides = await openSides(context, args, where, (args.integer('window', { min: 2 }) ?? DEFAULT_WINDOW) + 1)
      using _lease = sides.lease
      const measured =
        textPath === null
          ? null
          : await measureRemoteText(
              context,
              sides,
              await sampleAt(textPath),
              {
                protocol,
                window: args.integer('window', { min: 2 }) ?? DEFAULT_WINDOW,
                maxWindows: args.integer('windows', { min: 1 }),
              },
              cache,
            )
      const probes = await probesOf(file.tasks)
      const isAsked = file.tasks.length > 0 || probes.length > 0
      const tasks = isAsked ? await measureTasks(context, sides.target, sides.baseline, { ...plan, file, probes }) : NO_TASKS
      context.progress(null)
      const figures = measuredJson(measured)
      const written = await writeOut(
        args,
        tasks,
        {
          name: sides.target.name,
          path: where,
          device: 'remote',
          contextLimit: null,
          dtype: 'unknown',
          parameters: null,
          tokens: NO_TOKENS,
          chatTemplate: null,
          studio: { protocol: sides.target.protocol, perplexity: figures.perplexity, drift: figures.drift },
        },
        { prompts, limit, began },
      )
      return {
        json: {
          model: where,
          adapter: 'remote',
          lathe_version: latheVersion(),
          baseline: args.text('baseline'),
          ...figures,
          tasks: tasks.results.map((result) => taskJson(result, tasks.baseline.get(result.name) ?? null)),
          files: written,
        },
        text: `${describe(measured, tasks)}\n${sides.target.name} at ${where}`,
      }
    }
    const ref = await modelAt(where)
    const baselinePath = args.text('baseline')
    const baselineIsFolder = baselinePath !== null && !isAddress(baselinePath) && !(await isPublished(baselinePath))
    const baselineRef = baselineIsFolder ? await modelAt(baselinePath) : null
    // A file that can't be read, or a server that does not answer, is found out before anything is measured.
    const elsewhere = baselineRef === null ? await remoteOrPublished(context, args) : null
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
        ? elsewhere
        : {
            kind: 'target',
            id: subjects.baseline.ref.modelId,
            target: await localTarget(context, subjects.baseline.lease, subjects.baseline.ref),
          }
    const isAsked = all.tasks.length > 0 || probes.length > 0
    const tasks = isAsked ? await measureTasks(context, target, other, { ...plan, file: all, probes }) : NO_TASKS
    context.progress(null)
    const figures = measuredJson(measured)
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
              chatTemplate: codec.info.chatTemplate,
              studio: { protocol: target.protocol, perplexity: figures.perplexity, drift: figures.drift },
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
        ...figures,
        tasks: tasks.results.map((result) => taskJson(result, tasks.baseline.get(result.name) ?? null)),
        files: written,
      },
      text: `${describe(measured, tasks)}\n${ref.name} on ${adapter.name}`,
    }
  },
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
