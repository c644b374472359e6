/**
 * `lathe plan`: does a model fit a GPU at a context and concurrency, and how fast would it decode there? Bytes are exact; speeds are estimates
 * from the roofline and say so.
 */
import { resolve } from 'node:path'
import { DEVICES, findDevice } from '../../../engine/capacity/devices.ts'
import type { Device } from '../../../engine/capacity/devices.ts'
import { fitOf, largestContext } from '../../../engine/capacity/fit.ts'
import { kvBytesPerToken } from '../../../engine/capacity/kv-memory.ts'
import { modelShapeOf } from '../../../engine/capacity/model-shape.ts'
import type { ModelShape } from '../../../engine/capacity/model-shape.ts'
import { predictDecodeTokensPerSecond } from '../../../engine/capacity/roofline.ts'
import { nearestName } from '../../../engine/compress/nearest-name.ts'
import { LatheError } from '../../../engine/contract/index.ts'
import type { Fit } from '../../../engine/contract/index.ts'
import { resolveModelFolder } from '../../../engine/studio/library.ts'
import type { FolderFacts } from '../../../engine/studio/ports.ts'
import type { Command, CommandContext } from '../command.ts'
import { formatBytes, formatFacts } from '../format.ts'

const DEFAULT_CONTEXT = 4096
/** f16 cache, as the runtime's default. */
const KV_BYTES = 2
/** Share of the published bandwidth that decode reaches with our kernels and with good ones; the range of the estimate. */
const BANDWIDTH_SHARE = { low: 0.5, high: 0.85 } as const
/** Launches, sampling and host work per step, seconds; from a quiet desktop GPU. */
const OVERHEAD_SECONDS = 0.002

interface Target {
  readonly name: string
  readonly memoryBytes: number | null
  readonly device: Device | null
}

export const plan: Command = {
  usage: 'lathe plan <folder> [--gpu NAME] [--context N] [--concurrency N]',
  summary: 'does it fit a GPU, and how fast would it be (an estimate)',
  options: {
    gpu: { type: 'string', value: 'NAME', help: 'a GPU by name, e.g. "RTX 4090"; this machine’s by default' },
    context: { type: 'string', value: 'N', help: `tokens of context per request (${DEFAULT_CONTEXT}, or the model’s own limit)` },
    concurrency: { type: 'string', value: 'N', help: 'requests at once (1)' },
  },
  async run(args, context) {
    const folder = await resolveModelFolder(resolve(args.onlyPositional('model folder')))
    const concurrency = args.integer('concurrency', { min: 1 }) ?? 1
    const { checkpoint } = await context.engine()
    const facts = await checkpoint.inspect(folder)
    const shape = modelShapeOf(facts.config)
    const contextTokens =
      args.integer('context', { min: 1 }) ?? Math.min(DEFAULT_CONTEXT, facts.architecture.contextLength ?? DEFAULT_CONTEXT)
    const target = await targetOf(args.text('gpu'), context)
    const perToken = kvBytesPerToken(shape, { bytesPerElement: KV_BYTES, tensorParallel: 1 })
    const input = {
      weightBytes: facts.weightBytes,
      kvBytesPerToken: perToken * concurrency,
      activationBytes: 4 * shape.hiddenSize * 16 * concurrency + 4 * shape.vocabulary * concurrency,
      budgetBytes: target.memoryBytes,
    }
    const fit = fitOf({ ...input, contextTokens })
    const room = largestContext(input)
    const modelLimit = facts.architecture.contextLength
    const largest = room === null ? null : Math.min(room, modelLimit ?? room)
    const speed = target.device === null ? null : speedOn(target.device, shape, facts, contextTokens, concurrency)
    return {
      json: {
        model: folder,
        gpu: target.name,
        gpu_memory_bytes: target.memoryBytes,
        context: contextTokens,
        concurrency,
        weight_bytes: fit.weightBytes,
        kv_bytes: fit.kvBytes,
        kv_bytes_per_token: perToken,
        activation_bytes: fit.activationBytes,
        verdict: fit.verdict,
        largest_context: largest,
        model_context_limit: modelLimit,
        estimated_decode_tokens_per_second: speed,
        confidence: target.device?.confidence ?? null,
      },
      text: describe(fit, target, largest, speed, contextTokens, concurrency),
    }
  },
}

async function targetOf(name: string | null, context: CommandContext): Promise<Target> {
  if (name !== null) {
    const device = findDevice(name)
    if (device !== null) return { name: device.name, memoryBytes: device.memoryBytes, device }
    const nearest = nearestName(
      name,
      DEVICES.map((candidate) => candidate.name),
    )
    throw new LatheError(
      'request.invalid',
      `The table of GPUs has no "${name}".`,
      nearest === null ? `It has ${DEVICES.map((candidate) => candidate.name).join(', ')}.` : `Did you mean "${nearest}"?`,
    )
  }
  const { adapters } = await (await context.engine()).gpu.state()
  const adapter = adapters.find((candidate) => candidate.selected)
  if (adapter === undefined)
    throw new LatheError('gpu.no-adapter', 'This machine has no usable adapter to plan for.', 'Name a GPU with --gpu.')
  return {
    name: adapter.name,
    memoryBytes: adapter.memory.totalBytes,
    device: adapter.type === 'software' ? null : findDevice(adapter.name),
  }
}

function speedOn(
  device: Device,
  shape: ModelShape,
  facts: FolderFacts,
  contextTokens: number,
  batch: number,
): { low: number; high: number } {
  const embeddingBytes = facts.bytesByKind['embedding'] ?? 0
  const headBytes = facts.bytesByKind['head'] ?? embeddingBytes
  const linearBytes = facts.weightBytes - embeddingBytes - (facts.bytesByKind['head'] ?? 0)
  const at = (share: number): number =>
    predictDecodeTokensPerSecond(
      shape,
      { linearBytes, headBytes, contextTokens, batch, kvBytesPerElement: KV_BYTES },
      {
        bytesPerSecond: device.gigabytesPerSecond * 1e9 * share,
        operationsPerSecond: (device.tensor.bf16 ?? device.shaderTeraflops ?? 1) * 1e12 * share,
        overheadSeconds: OVERHEAD_SECONDS,
      },
    )
  return { low: at(BANDWIDTH_SHARE.low), high: at(BANDWIDTH_SHARE.high) }
}

const VERDICTS: Readonly<Record<Fit['verdict'], string>> = {
  fits: 'fits',
  tight: 'fits, with little to spare',
  context: 'does not fit at this context: shorten it, or serve fewer requests at once',
  weights: 'does not fit: the weights alone are too large; choose a smaller format',
  unknown: 'unknown: nobody says how much memory this adapter has',
}

function describe(
  fit: Fit,
  target: Target,
  largest: number | null,
  speed: { low: number; high: number } | null,
  contextTokens: number,
  concurrency: number,
): string {
  return formatFacts([
    ['GPU', `${target.name}${target.memoryBytes === null ? '' : `, ${formatBytes(target.memoryBytes)}`}`],
    ['Weights', formatBytes(fit.weightBytes)],
    ['KV cache', `${formatBytes(fit.kvBytes)} for ${concurrency} × ${contextTokens} tokens (f16)`],
    ['Activations', formatBytes(fit.activationBytes)],
    ['Verdict', VERDICTS[fit.verdict]],
    ['Largest context', largest === null ? 'unknown' : `${largest} tokens`],
    [
      'Decode (estimate)',
      speed === null ? 'no estimate for this adapter' : `${speed.low.toPrecision(2)} to ${speed.high.toPrecision(2)} tok/s in all`,
    ],
  ])
}
