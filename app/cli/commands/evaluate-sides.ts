/** Who answers for `lathe eval`: a model folder, an address, or a published run as the baseline of either; whole texts where one side is a server. */
import { existsSync } from 'node:fs'
import { extname, join, resolve } from 'node:path'
import { modelFingerprint } from '../../../engine/evaluate/model-fingerprint.ts'
import type { PerplexityOptions, TextSample } from '../../../engine/evaluate/perplexity.ts'
import { findPublishedResults, readPublishedResults } from '../../../engine/evaluate/published-results.ts'
import { OpenAiClient } from '../../../engine/evaluate/remote/openai-client.ts'
import type { RemoteModel } from '../../../engine/evaluate/remote/openai-client.ts'
import { cachedTextSource } from '../../../engine/evaluate/remote/cached-source.ts'
import { measureTextOn } from '../../../engine/evaluate/remote/measure-text.ts'
import type { TextMeasurement } from '../../../engine/evaluate/remote/measure-text.ts'
import { connectRemoteTarget } from '../../../engine/evaluate/remote/remote-target.ts'
import { localTextSource, remoteTextSource } from '../../../engine/evaluate/remote/text-source.ts'
import type { TextSource } from '../../../engine/evaluate/remote/text-source.ts'
import type { EvaluationCache } from '../../../engine/evaluate/tasks/cache.ts'
import { createLocalTarget } from '../../../engine/evaluate/tasks/local-target.ts'
import type { EvaluationTarget } from '../../../engine/evaluate/tasks/target.ts'
import type { ModelLease } from '../../../engine/runtime/types.ts'
import type { ModelRef } from '../../../engine/studio/ports.ts'
import type { Arguments } from '../arguments.ts'
import { latheVersion } from '../assets.ts'
import type { CommandContext } from '../command.ts'
import type { TaskBaseline } from './evaluate-tasks.ts'
import { acquire, modelAt } from './with-model.ts'

export const API_KEY_VARIABLE = 'LATHE_API_KEY'

export function isAddress(where: string): boolean {
  return /^https?:\/\//.test(where)
}

/** A results file, or a folder that holds one and no model. */
export async function isPublished(path: string): Promise<boolean> {
  if (extname(path) === '.json') return true
  return !existsSync(join(path, 'config.json')) && (await findPublishedResults(resolve(path))) !== null
}

interface Server {
  readonly client: OpenAiClient
  readonly model: RemoteModel
  readonly target: EvaluationTarget
}

async function connect(context: CommandContext, args: Arguments, url: string): Promise<Server> {
  const client = new OpenAiClient({ url, apiKey: args.text('api-key') ?? process.env[API_KEY_VARIABLE] ?? null })
  const model = await client.pick(args.text('model'), context.signal)
  return { client, model, target: await connectRemoteTarget({ client, model, name: model.id, signal: context.signal }) }
}

/** A baseline that is no folder. */
export async function remoteOrPublished(context: CommandContext, args: Arguments): Promise<TaskBaseline | null> {
  const baseline = args.text('baseline')
  if (baseline === null) return null
  if (isAddress(baseline)) return { kind: 'target', id: baseline, target: (await connect(context, args, baseline)).target }
  if (await isPublished(baseline)) return { kind: 'published', id: baseline, results: await readPublishedResults(resolve(baseline)) }
  throw args.invalid(`"${baseline}" is neither a model folder, nor an address, nor published results.`)
}

export async function localTarget(context: CommandContext, lease: ModelLease, ref: ModelRef): Promise<EvaluationTarget> {
  const { tokenizers } = await context.engine()
  const codec = await tokenizers.open(ref.folder)
  // A kept answer of another version is another engine's (specs/evaluation.md §11).
  const fingerprint = `${await modelFingerprint(ref.folder)}:lathe-${latheVersion()}`
  return createLocalTarget({ name: ref.name, runtime: lease.runtime, codec, modelFingerprint: fingerprint })
}

/** A server and its baseline, for tasks and for whole texts. */
export interface ServerSides {
  readonly target: EvaluationTarget
  readonly baseline: TaskBaseline | null
  readonly text: () => Promise<TextSource>
  readonly baselineText: (() => Promise<{ readonly id: string; readonly source: TextSource; readonly fingerprint: string }>) | null
  /** Of a baseline that is a folder. */
  readonly lease: ModelLease | null
}

export async function openSides(context: CommandContext, args: Arguments, url: string, contextTokens: number): Promise<ServerSides> {
  const server = await connect(context, args, url)
  const own = { target: server.target, text: () => textOf(context, server) }
  const where = args.text('baseline')
  if (where === null) return { ...own, baseline: null, baselineText: null, lease: null }
  if (isAddress(where)) {
    const other = await connect(context, args, where)
    return {
      ...own,
      baseline: { kind: 'target', id: where, target: other.target },
      baselineText: async () => ({ id: where, source: await textOf(context, other), fingerprint: other.target.fingerprint }),
      lease: null,
    }
  }
  if (await isPublished(where)) return { ...own, baseline: await remoteOrPublished(context, args), baselineText: null, lease: null }
  const ref = await modelAt(where)
  // Prompts of tasks are as long as the server takes them.
  const lease = await acquire(context, ref, { contextTokens: Math.max(contextTokens, server.model.contextLimit ?? contextTokens) })
  const { tokenizers } = await context.engine()
  const codec = await tokenizers.open(ref.folder)
  const target = await localTarget(context, lease, ref)
  return {
    ...own,
    baseline: { kind: 'target', id: ref.modelId, target },
    baselineText: async () => ({
      id: ref.modelId,
      source: localTextSource(ref.name, lease.runtime, codec),
      fingerprint: target.fingerprint,
    }),
    lease,
  }
}

function textOf(context: CommandContext, { client, model }: Server): Promise<TextSource> {
  return remoteTextSource(client, model, context.signal)
}

export async function measureRemoteText(
  context: CommandContext,
  sides: ServerSides,
  sample: TextSample,
  protocol: Pick<PerplexityOptions, 'protocol' | 'window' | 'maxWindows'>,
  cache: EvaluationCache | null,
): Promise<TextMeasurement> {
  const kept = (source: TextSource, fingerprint: string): TextSource =>
    cache === null ? source : cachedTextSource(source, fingerprint, cache)
  const other = sides.baselineText === null ? null : await sides.baselineText()
  const baseline = other === null ? null : { id: other.id, source: kept(other.source, other.fingerprint) }
  return measureTextOn(kept(await sides.text(), sides.target.fingerprint), baseline, sample, {
    ...protocol,
    signal: context.signal,
    onProgress: (done, total) => context.progress(`perplexity: ${done} of ${total} tokens`),
  })
}
