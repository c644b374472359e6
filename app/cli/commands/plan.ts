/**
 * `lathe plan`: does a model fit, at what context and concurrency, in which scheme, how fast and at what cost; on this machine or on GPUs of the
 * table, alone or as a vLLM server. Takes a folder or the name of a published configuration. Bytes are exact; speeds are ranges and say so.
 */
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { DEVICES, findDevice } from '../../../engine/capacity/devices.ts'
import { planCapacity } from '../../../engine/capacity/planner.ts'
import type { PlanMachine, PlanSubject } from '../../../engine/capacity/planner.ts'
import { findPublishedModel } from '../../../engine/capacity/published-models.ts'
import { STORAGE_SCHEMES } from '../../../engine/capacity/storage-schemes.ts'
import { nearestName } from '../../../engine/compress/nearest-name.ts'
import { CAPACITY_DEFAULTS, KV_ELEMENTS, LatheError } from '../../../engine/contract/index.ts'
import type { CapacityRequest } from '../../../engine/contract/index.ts'
import { machineHere, machineOfDevice } from '../../../engine/studio/capacity-machine.ts'
import { subjectOfFolder, subjectOfPublished } from '../../../engine/studio/capacity-subject.ts'
import { resolveModelFolder } from '../../../engine/studio/model-folder.ts'
import type { Arguments } from '../arguments.ts'
import type { Command, CommandContext } from '../command.ts'
import { planJson, planText } from './plan-output.ts'

/** What a request is long, unless told: most of the context is prompt. */
const DEFAULT_OUTPUT_TOKENS = 256

export const plan: Command = {
  usage:
    'lathe plan <folder>|<published name> [--gpu NAME] [--engine lathe|vllm] [--context N] [--concurrency N] [--scheme NAME] [--users N] [--cost MONEY]',
  summary: 'does it fit, how fast, for how many, at what cost (speeds are estimates)',
  options: {
    gpu: { type: 'string', value: 'NAME', help: 'a GPU by name, e.g. "RTX 4090"; this machine’s by default' },
    context: {
      type: 'string',
      value: 'N',
      help: `tokens of context per request (${CAPACITY_DEFAULTS.contextTokens}, or the model’s own limit)`,
    },
    concurrency: { type: 'string', value: 'N', help: 'requests at once (1)' },
    engine: { type: 'string', value: 'NAME', help: 'lathe (this engine; the default here) or vllm (a server; the default with --gpu)' },
    scheme: { type: 'string', value: 'NAME', help: `what if it were stored as: ${STORAGE_SCHEMES.map((scheme) => scheme.id).join(', ')}` },
    'kv-dtype': {
      type: 'string',
      value: 'NAME',
      help: `elements of the cache: ${KV_ELEMENTS.join(', ')} (what the checkpoint names, else f16)`,
    },
    'tensor-parallel': { type: 'string', value: 'N', help: 'GPUs per copy of the model (the least that fits; vllm only)' },
    'prompt-tokens': {
      type: 'string',
      value: 'N',
      help: `prompt of the usual request (${CAPACITY_DEFAULTS.promptTokens}, or what the context leaves)`,
    },
    'output-tokens': { type: 'string', value: 'N', help: `answer of the usual request (${DEFAULT_OUTPUT_TOKENS})` },
    'slo-first-token': { type: 'string', value: 'MS', help: 'longest wait for the first token' },
    'slo-per-token': { type: 'string', value: 'MS', help: 'longest time per token after it' },
    users: { type: 'string', value: 'N', help: 'people waiting at the same time: how many GPUs?' },
    cost: { type: 'string', value: 'MONEY', help: 'per GPU and hour: what does a million tokens cost?' },
    busy: { type: 'string', value: 'SHARE', help: `share of the paid time that serves requests (${CAPACITY_DEFAULTS.busyShare})` },
    'no-calibration': { type: 'boolean', help: 'do not time this machine first; then its speeds stay unknown or come from the table' },
  },
  async run(args, context) {
    const named = args.onlyPositional('model folder or published configuration')
    const subject = await subjectOf(named, context)
    const gpu = args.text('gpu')
    const engine = args.oneOf('engine', ['lathe', 'vllm'], gpu === null ? 'lathe' : 'vllm')
    const request = requestOf(args, subject, { gpu, engine })
    const machine = gpu === null ? await thisMachine(context, args.flag('no-calibration')) : machineOfDevice(deviceOf(gpu))
    const answer = planCapacity(request, subject, machine)
    return { json: planJson(named, answer), text: planText(answer) }
  },
}

/** A folder wins over a published name, as a path is what was asked for. */
async function subjectOf(named: string, context: CommandContext): Promise<PlanSubject> {
  const looksLikePath = /[\\/]/.test(named) || named.startsWith('.') || existsSync(resolve(named))
  if (!looksLikePath && findPublishedModel(named) !== null) return subjectOfPublished(named)
  const folder = await resolveModelFolder(resolve(named)).catch((error: unknown) => {
    // a bare word that is no folder was meant as a name
    if (!looksLikePath) subjectOfPublished(named)
    throw error
  })
  const { checkpoint } = await context.engine()
  return subjectOfFolder(named, await checkpoint.inspect(folder))
}

function requestOf(
  args: Arguments,
  subject: PlanSubject,
  { gpu, engine }: { readonly gpu: string | null; readonly engine: 'lathe' | 'vllm' },
): CapacityRequest {
  const limit = subject.shape.contextLimit ?? Infinity
  const contextTokens = args.integer('context', { min: 1 }) ?? Math.min(CAPACITY_DEFAULTS.contextTokens, limit)
  const outputTokens =
    args.integer('output-tokens', { min: 1 }) ?? Math.max(1, Math.min(DEFAULT_OUTPUT_TOKENS, Math.floor(contextTokens / 4)))
  const promptTokens =
    args.integer('prompt-tokens', { min: 1 }) ?? Math.max(1, Math.min(CAPACITY_DEFAULTS.promptTokens, contextTokens - outputTokens))
  const scheme = args.text('scheme')
  return {
    ...CAPACITY_DEFAULTS,
    subject: { kind: 'published', id: subject.title },
    deviceId: gpu,
    engine,
    contextTokens,
    promptTokens,
    outputTokens,
    concurrency: args.integer('concurrency', { min: 1 }) ?? 1,
    tensorParallel: args.integer('tensor-parallel', { min: 1, max: 64 }),
    schemeId:
      scheme === null
        ? null
        : args.oneOf(
            'scheme',
            STORAGE_SCHEMES.map((candidate) => candidate.id),
            scheme,
          ),
    kvElement: args.oneOf('kv-dtype', ['auto', ...KV_ELEMENTS], 'auto'),
    slo: {
      firstTokenMs: args.number('slo-first-token', { min: 0.001 }),
      perTokenMs: args.number('slo-per-token', { min: 0.001 }),
    },
    users: args.integer('users', { min: 1 }),
    costPerGpuHour: args.number('cost', { min: 1e-9 }),
    busyShare: args.number('busy', { min: 0.01, max: 1 }) ?? CAPACITY_DEFAULTS.busyShare,
  }
}

function deviceOf(name: string): string {
  const device = DEVICES.find((candidate) => candidate.id === name) ?? findDevice(name)
  if (device !== null) return device.id
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

async function thisMachine(context: CommandContext, withoutCalibration: boolean): Promise<PlanMachine> {
  const { gpu, models } = await context.engine()
  if (!withoutCalibration) context.progress('timing this machine')
  const calibration = withoutCalibration ? null : await gpu.benchmark(context.signal)
  context.progress(null)
  return machineHere({ gpu, models, calibrationOf: () => calibration, overheadOf: () => null }, null)
}
