/**
 * From a model folder to a Runtime: checkpoint, tokenizer, model on the device, a first measured step, core and front. Whatever fails or is
 * aborted on the way, everything taken so far is released before the error leaves.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { openCheckpoint } from '../checkpoint/open.ts'
import type { Checkpoint } from '../checkpoint/types.ts'
import { LatheError } from '../contract/errors.ts'
import { valueDtypeOf, type KvSetting } from '../gpu/kv-format.ts'
import type { KvLayout } from '../gpu/program.ts'
import { namedCacheType } from '../model/key-value-scales.ts'
import { loadModel } from '../model/load.ts'
import type { LoadedModel } from '../model/load.ts'
import { DEFAULT_BLOCK_SIZE } from '../model/memory.ts'
import { describeModel } from '../model/spec.ts'
import { loadTokenizer } from '../tokenizer/tokenizer.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { BlockPool } from './block-pool.ts'
import { Core } from './core.ts'
import { buildDigest } from './disaggregation/build-digest.ts'
import { openDisaggregated } from './disaggregation/open.ts'
import { LocalRuntime } from './local-runtime.ts'
import { PrefixHasher } from './prefix-hash.ts'
import { Request } from './request.ts'
import { StepBuilder } from './step-builder.ts'
import { openSpeculator } from './speculation/open.ts'
import type { Speculator } from './speculation/speculator.ts'
import { CALIBRATION_TOKENS, FixedStepBudget, TimedStepBudget } from './step-budget.ts'
import type { StepBudget } from './step-budget.ts'
import type { OpenRuntimeOptions, Runtime, RuntimeInfo } from './types.ts'

const DEFAULT_SEQUENCES = 8
/**
 * Most tokens of a step. Prefill on a GPU is bound by arithmetic from about this many rows on, and each costs activation memory; a software
 * adapter would only be slower to cancel.
 */
const MOST_STEP_TOKENS = { hardware: 512, software: 256 } as const
/** Logits of a step: rows · vocabulary · 4 bytes. 32 MiB bind on every adapter; small vocabularies get more rows, to score in fewer steps. */
const LOGITS_BYTES = 32 << 20
const MOST_ROWS = 256
const LEAST_ROWS = 32

/** Throws what opening the checkpoint, the tokenizer or the model throws, and the signal's reason when aborted. */
export async function openRuntime(options: OpenRuntimeOptions): Promise<Runtime> {
  const { disaggregation } = options
  return disaggregation === undefined ? openOne(options) : openDisaggregated(options, disaggregation, openOne)
}

async function openOne(options: OpenRuntimeOptions): Promise<Runtime> {
  const { source, signal, onProgress } = options
  const began = performance.now()
  signal?.throwIfAborted()
  onProgress?.({ phase: 'reading', doneBytes: 0, totalBytes: 0 })
  if (typeof source !== 'string') return open(source, options, began)
  await using checkpoint = await openCheckpoint(source)
  return await open(checkpoint, options, began)
}

async function open(checkpoint: Checkpoint, options: OpenRuntimeOptions, began: number): Promise<Runtime> {
  const compiledBefore = options.backend.compileMs?.() ?? null
  const { backend, modelId, signal, onProgress, kvDtype } = options
  const tokenizer = options.tokenizer === undefined ? await tokenizerOf(checkpoint.folder) : options.tokenizer
  signal?.throwIfAborted()
  const { vocabulary, contextLimit } = describeModel(checkpoint.config, checkpoint.generationConfig)
  const contextTokens = Math.min(options.contextTokens, contextLimit)
  const sequences = options.maxSequences ?? DEFAULT_SEQUENCES
  const owner = `model:${modelId}`
  const model = await loadModel({
    checkpoint,
    backend,
    contextTokens,
    kvDtype,
    // Every sequence but one may leave the better part of a block unused.
    kvTokens: Math.max(options.kvTokens ?? 0, contextTokens) + (sequences - 1) * DEFAULT_BLOCK_SIZE,
    capacity: {
      tokens: Math.max(backend.software ? MOST_STEP_TOKENS.software : MOST_STEP_TOKENS.hardware, sequences),
      rows: Math.max(sequences, Math.min(MOST_ROWS, Math.max(LEAST_ROWS, Math.floor(LOGITS_BYTES / (4 * vocabulary))))),
      sequences,
    },
    owner,
    matrixUnits: options.matrixUnits,
    signal,
    onProgress: (doneBytes, totalBytes) => onProgress?.({ phase: 'uploading', doneBytes, totalBytes }),
  })
  try {
    onProgress?.({ phase: 'calibrating', doneBytes: model.weightBytes, totalBytes: model.weightBytes })
    const budget = await budgetFor(model, options)
    signal?.throwIfAborted()
    const build = options.handover === true ? await buildDigest(checkpoint, model.program) : null
    const speculator = await openSpeculator(options.speculation, { model, backend, owner, kvDtype, signal })
    const checkpointKvDtype = namedCacheType(checkpoint)
    return createRuntime(model, { tokenizer, checkpointKvDtype, budget, speculator, build, owner, began, compiledBefore, options })
  } catch (error) {
    model.dispose()
    throw error
  }
}

interface RuntimeSetting {
  readonly checkpointKvDtype: KvSetting | null
  readonly tokenizer: Tokenizer | null
  readonly budget: StepBudget
  readonly speculator: Speculator | null
  readonly build: string | null
  readonly owner: string
  readonly began: number
  readonly compiledBefore: number | null
  readonly options: OpenRuntimeOptions
}

function createRuntime(
  model: LoadedModel,
  { tokenizer, checkpointKvDtype, budget, speculator, build, owner, began, compiledBefore, options }: RuntimeSetting,
): Runtime {
  const { backend, modelId, kvDtype, prefixCache = true } = options
  const { spec, executable, contextTokens: contextLimit } = model
  const { blocks, blockSize } = model.kv.layout
  const info: RuntimeInfo = {
    modelId,
    adapterId: backend.id,
    software: backend.software,
    contextLimit,
    modelContextLimit: spec.contextLimit,
    maxSequences: model.capacity.sequences,
    kvDtype,
    ...(checkpointKvDtype !== null && { checkpointKvDtype }),
    ...kvScalesOf(model.kv.layout),
    ...(options.matrixUnits === true ? { matrixUnits: true } : {}),
    kvBytesPerToken: model.kvBytes / (blocks * blockSize),
    vocabulary: spec.vocabulary,
    eosTokenIds: spec.eosTokenIds,
    defaultSampling: spec.defaultSampling,
    weightBytes: model.weightBytes,
    kvBytes: model.kvBytes,
    otherBytes: Math.max(0, (backend.usage().get(owner)?.bytes ?? 0) - model.weightBytes - model.kvBytes),
    loadMs: performance.now() - began,
    compileMs: backend.compileMs === undefined || compiledBefore === null ? null : backend.compileMs() - compiledBefore,
  }
  return new LocalRuntime({
    info,
    backend,
    tokenizer,
    kv: build === null ? null : { cache: model.kv, build },
    createCore: (emit) =>
      new Core({
        executable,
        pool: new BlockPool(blocks, blockSize),
        hasher: prefixCache ? new PrefixHasher(blockSize) : null,
        budget,
        contextLimit,
        modelId,
        emit,
        speculator,
        maxQueued: options.maxQueued,
        // The driver has not noticed: closing the device makes the loss known to every model on it, and the next request opens another.
        onHang: () => void backend[Symbol.asyncDispose](),
      }),
    release: () => model.dispose(),
  })
}

function kvScalesOf(layout: KvLayout): Pick<RuntimeInfo, 'kvScales'> {
  if (layout.dtype !== 'fp8' && valueDtypeOf(layout) !== 'fp8') return {}
  return { kvScales: (layout.staticScales ?? null) === null ? 'rows' : 'checkpoint' }
}

async function tokenizerOf(folder: string): Promise<Tokenizer | null> {
  try {
    return await loadTokenizer(folder)
  } catch (error) {
    // Such a model can still be scored and generate ids; stop strings and text are refused where they are asked for.
    if (error instanceof LatheError && error.code === 'tokenizer.missing') return null
    throw error
  }
}

/**
 * Two short steps before anything is served: the first pays for what drivers put off until first use, the second tells how fast this device is
 * with this model. What they write is overwritten by whoever gets the blocks.
 */
async function budgetFor(model: LoadedModel, options: OpenRuntimeOptions): Promise<StepBudget> {
  if (options.fixedTokenBudget !== undefined) return new FixedStepBudget(options.fixedTokenBudget)
  const { capacity, executable, kv, contextTokens } = model
  const { decodingElsewhere } = options
  const budget = new TimedStepBudget(capacity.tokens, capacity.sequences, decodingElsewhere)
  const count = Math.min(CALIBRATION_TOKENS, capacity.tokens, contextTokens)
  const { blockSize } = kv.layout
  const request = new Request('calibration', new Uint32Array(count + 1), { kind: 'score', from: 1, topCount: 0 }, 0)
  request.table = Array.from({ length: Math.ceil(count / blockSize) }, (_, i) => i + 1)
  const input = new StepBuilder(capacity, blockSize).build({ entries: [{ request, start: 0, count, rows: 1 }], tokens: count, rows: 1 })
  await executable.step(input)
  options.signal?.throwIfAborted()
  await nextTurn()
  const started = performance.now()
  await executable.step(input)
  budget.observe(count, performance.now() - started)
  return budget
}
