/** Plausible library contents for the fake engine: the sample with two variants, a real-sized model, one that moved and one that can't be run. */
import type {
  Adapter,
  Hardware,
  ModelDetail,
  ModelSummary,
  Preset,
  PresetPrediction,
  Provenance,
  ResultSet,
  SampleStats,
  TensorError,
  TensorInfo,
} from '../../engine/contract/index.ts'
import { fitOf } from '../lib/fit.ts'

const GIB = 1024 ** 3

export const SAMPLE: ModelSummary = {
  id: 'm-pebble',
  parentId: null,
  name: 'Pebble-Tidewater',
  path: '/opt/lathe/assets/demo-model',
  createdAt: '2026-11-20T09:12:00Z',
  lastUsedAt: '2026-11-23T08:40:00Z',
  status: 'ready',
  statusReason: null,
  architecture: {
    family: 'llama',
    className: 'LlamaForCausalLM',
    layers: 6,
    hiddenSize: 256,
    intermediateSize: 640,
    attentionHeads: 4,
    keyValueHeads: 2,
    headDim: 64,
    vocabSize: 2048,
    contextLength: 1024,
    tiedEmbeddings: true,
    slidingWindow: null,
  },
  parameters: 4_657_920,
  weightBytes: 9_315_840,
  diskBytes: 9_489_000,
  scheme: 'BF16',
  bitsPerWeight: 16,
  inputElements: [],
  presetId: null,
  isSample: true,
  hasTokenizer: true,
  hasChatTemplate: true,
  license: 'MIT',
  origin: 'folder',
}

export const SAMPLE_W8: ModelSummary = {
  ...SAMPLE,
  id: 'm-pebble-w8',
  parentId: SAMPLE.id,
  name: 'Pebble-Tidewater · Near-lossless 8-bit',
  path: '/home/ada/.local/share/lathe/variants/Pebble-Tidewater-near-lossless-8bit',
  createdAt: '2026-11-22T14:02:00Z',
  lastUsedAt: null,
  weightBytes: 5_220_000,
  diskBytes: 5_410_000,
  scheme: 'W8A16 channel',
  bitsPerWeight: 8.96,
  inputElements: [],
  presetId: 'near-lossless-8bit',
  isSample: false,
}

export const SAMPLE_W4: ModelSummary = {
  ...SAMPLE_W8,
  id: 'm-pebble-w4',
  name: 'Pebble-Tidewater · Balanced 4-bit',
  path: '/home/ada/.local/share/lathe/variants/Pebble-Tidewater-balanced-4bit',
  createdAt: '2026-11-22T14:05:00Z',
  lastUsedAt: '2026-11-22T16:30:00Z',
  weightBytes: 3_199_808,
  diskBytes: 3_390_000,
  scheme: 'W4A16 g128',
  bitsPerWeight: 5.5,
  inputElements: [],
  presetId: 'balanced-4bit',
}

const QWEN: ModelSummary = {
  id: 'm-qwen3',
  parentId: null,
  name: 'Qwen3-0.6B',
  path: '/home/ada/models/Qwen3-0.6B',
  createdAt: '2026-11-21T17:30:00Z',
  lastUsedAt: '2026-11-22T10:05:00Z',
  status: 'ready',
  statusReason: null,
  architecture: {
    family: 'qwen3',
    className: 'Qwen3ForCausalLM',
    layers: 28,
    hiddenSize: 1024,
    intermediateSize: 3072,
    attentionHeads: 16,
    keyValueHeads: 8,
    headDim: 128,
    vocabSize: 151_936,
    contextLength: 40_960,
    tiedEmbeddings: true,
    slidingWindow: null,
  },
  parameters: 596_049_920,
  weightBytes: 1_192_099_840,
  diskBytes: 1_207_000_000,
  scheme: 'BF16',
  bitsPerWeight: 16,
  inputElements: [],
  presetId: null,
  isSample: false,
  hasTokenizer: true,
  hasChatTemplate: true,
  license: 'Apache-2.0',
  origin: 'folder',
}

const MOVED: ModelSummary = {
  ...QWEN,
  id: 'm-llama',
  name: 'Llama-3.2-1B-Instruct',
  path: '/media/usb/Llama-3.2-1B-Instruct',
  createdAt: '2026-10-02T11:00:00Z',
  lastUsedAt: '2026-10-04T11:00:00Z',
  status: 'missing',
  statusReason: {
    code: 'checkpoint.not-found',
    message: 'The folder /media/usb/Llama-3.2-1B-Instruct is not there any more.',
    hint: 'Plug the drive in again, or use Locate… to say where the folder went.',
  },
  architecture: {
    ...QWEN.architecture,
    family: 'llama',
    className: 'LlamaForCausalLM',
    layers: 16,
    hiddenSize: 2048,
    contextLength: 131_072,
  },
  parameters: 1_235_814_400,
  weightBytes: 2_471_645_608,
  diskBytes: 2_490_000_000,
  license: 'Llama 3.2',
  origin: 'folder',
}

const UNSUPPORTED: ModelSummary = {
  ...QWEN,
  id: 'm-mixtral',
  name: 'Mixtral-8x7B-v0.1',
  path: '/home/ada/models/Mixtral-8x7B-v0.1',
  createdAt: '2026-11-19T08:00:00Z',
  lastUsedAt: null,
  status: 'unsupported',
  statusReason: {
    code: 'model.unsupported-architecture',
    message: 'MixtralForCausalLM can be inspected but not run yet.',
    hint: 'Lathe runs Llama, Mistral, Qwen2 and Qwen3. The inspector works in full.',
  },
  architecture: {
    ...QWEN.architecture,
    family: 'mixtral',
    className: 'MixtralForCausalLM',
    layers: 32,
    hiddenSize: 4096,
    tiedEmbeddings: false,
  },
  parameters: 46_702_792_704,
  weightBytes: 93_405_585_408,
  diskBytes: 93_420_000_000,
}

export const LIBRARY: readonly ModelSummary[] = [SAMPLE, SAMPLE_W8, SAMPLE_W4, QWEN, MOVED, UNSUPPORTED]

export const KV_BYTES_PER_TOKEN = 6 * 2 * 2 * 64 * 2

const SOFTWARE_ADAPTER: Adapter = {
  id: 'vulkan-lavapipe',
  name: 'llvmpipe (LLVM 19.1, 256 bits)',
  vendor: 'Mesa',
  backend: 'Vulkan',
  driver: 'lavapipe 25.1',
  type: 'software',
  selected: true,
  usable: true,
  reason: null,
  features: { f16: true, subgroups: true, subgroupSize: [8, 8], timestamps: true, packedDot: true, subgroupMatrix: false },
  emulates: ['e4m3', 'e2m1'],
  limits: { maxBufferBytes: 2 * GIB, maxBindingBytes: 2 * GIB, workgroupStorageBytes: 32_768, maxInvocations: 1024 },
  memory: { totalBytes: 8 * GIB, freeBytes: 5.2 * GIB, source: 'system memory' },
}

const DISCRETE_ADAPTER: Adapter = {
  ...SOFTWARE_ADAPTER,
  id: 'vulkan-rtx4070',
  name: 'NVIDIA GeForce RTX 4070',
  vendor: 'NVIDIA',
  driver: 'NVIDIA 575.64',
  type: 'discrete',
  features: { f16: true, subgroups: true, subgroupSize: [32, 32], timestamps: true, packedDot: true, subgroupMatrix: true },
  limits: { maxBufferBytes: 4 * GIB, maxBindingBytes: 4 * GIB - 4, workgroupStorageBytes: 49_152, maxInvocations: 1024 },
  memory: { totalBytes: 12 * GIB, freeBytes: 10.4 * GIB, source: 'VK_EXT_memory_budget' },
}

export function hardware(kind: 'software' | 'discrete'): Hardware {
  const discrete = kind === 'discrete'
  return {
    adapters: [
      ...(discrete ? [DISCRETE_ADAPTER] : []),
      { ...SOFTWARE_ADAPTER, selected: !discrete },
      {
        ...SOFTWARE_ADAPTER,
        id: 'reference',
        name: 'Reference backend (f64)',
        vendor: 'Lathe',
        backend: 'CPU',
        driver: 'TypeScript',
        type: 'reference',
        selected: false,
        limits: null,
        features: { f16: false, subgroups: false, subgroupSize: null, timestamps: false, packedDot: false, subgroupMatrix: false },
      },
    ],
    advice: discrete
      ? []
      : [
          {
            what: 'No hardware GPU was found',
            why: 'Vulkan lists only llvmpipe, which runs on the CPU. Results are right, speeds say nothing about a GPU.',
            fix: 'Install the Vulkan driver of your graphics card, then restart Lathe.',
          },
        ],
    host: {
      platform: 'Linux 6.12 x64',
      cpu: 'AMD Ryzen 7 7840U',
      cores: 16,
      totalMemoryBytes: 32 * GIB,
      freeMemoryBytes: 19 * GIB,
      nodeVersion: '24.21.0',
      engineRssBytes: 212_000_000,
    },
    ledger: [
      { owner: 'm-pebble-w4 weights', bytes: 3_199_808, buffers: 43 },
      { owner: 'm-pebble-w4 KV cache', bytes: 6_291_456, buffers: 12 },
      { owner: 'pipelines', bytes: 262_144, buffers: 4 },
    ],
    gpuBytesInUse: 9_753_408,
    gpuBudgetBytes: discrete ? 10.4 * GIB : 4 * GIB,
    loaded: [
      {
        modelId: SAMPLE_W4.id,
        name: SAMPLE_W4.name,
        weightBytes: 3_199_808,
        kvBytes: 6_291_456,
        otherBytes: 262_144,
        contextLimit: 1024,
        busy: false,
        lastUsedAt: '2026-11-23T08:40:00Z',
      },
    ],
  }
}

function tensorInfo(name: string, shape: number[], kind: string, layer: number | null): TensorInfo {
  return { name, dtype: 'BF16', shape, bytes: shape.reduce((product, size) => product * size, 2), file: 'model.safetensors', kind, layer }
}

export function tensorsOf(model: ModelSummary): TensorInfo[] {
  const { layers, hiddenSize, intermediateSize, keyValueHeads, attentionHeads, headDim, vocabSize } = model.architecture
  const hidden = hiddenSize ?? 256
  const inner = intermediateSize ?? 4 * hidden
  const kvWidth = (keyValueHeads ?? 2) * (headDim ?? 64)
  const queryWidth = (attentionHeads ?? 4) * (headDim ?? 64)
  const perLayer = Array.from({ length: layers ?? 0 }, (_, layer) => {
    const prefix = `model.layers.${layer}`
    return [
      tensorInfo(`${prefix}.input_layernorm.weight`, [hidden], 'norm', layer),
      tensorInfo(`${prefix}.self_attn.q_proj.weight`, [queryWidth, hidden], 'attention', layer),
      tensorInfo(`${prefix}.self_attn.k_proj.weight`, [kvWidth, hidden], 'attention', layer),
      tensorInfo(`${prefix}.self_attn.v_proj.weight`, [kvWidth, hidden], 'attention', layer),
      tensorInfo(`${prefix}.self_attn.o_proj.weight`, [hidden, queryWidth], 'attention', layer),
      tensorInfo(`${prefix}.post_attention_layernorm.weight`, [hidden], 'norm', layer),
      tensorInfo(`${prefix}.mlp.gate_proj.weight`, [inner, hidden], 'mlp', layer),
      tensorInfo(`${prefix}.mlp.up_proj.weight`, [inner, hidden], 'mlp', layer),
      tensorInfo(`${prefix}.mlp.down_proj.weight`, [hidden, inner], 'mlp', layer),
    ]
  }).flat()
  return [
    tensorInfo('model.embed_tokens.weight', [vocabSize ?? 2048, hidden], 'embedding', null),
    ...perLayer,
    tensorInfo('model.norm.weight', [hidden], 'norm', null),
  ]
}

export function detailOf(model: ModelSummary, library: readonly ModelSummary[]): ModelDetail {
  const tensors = tensorsOf(model)
  const bytesBy = (key: 'dtype' | 'kind') =>
    Object.fromEntries(
      [...Map.groupBy(tensors, (tensor) => tensor[key])].map(([name, group]) => [
        name,
        group.reduce((sum, tensor) => sum + tensor.bytes, 0),
      ]),
    )
  const { layers, keyValueHeads, headDim } = model.architecture
  return {
    summary: model,
    config: {
      architectures: [model.architecture.className],
      hidden_act: 'silu',
      rope_theta: 10_000,
      rms_norm_eps: 1e-5,
      model_type: model.architecture.family,
      torch_dtype: 'bfloat16',
    },
    bytesByDtype: bytesBy('dtype'),
    bytesByKind: bytesBy('kind'),
    files: [
      { name: 'config.json', bytes: 702 },
      { name: 'model.safetensors', bytes: model.weightBytes + 6_800 },
      { name: 'tokenizer.json', bytes: 148_211 },
      { name: 'tokenizer_config.json', bytes: 1_904 },
    ],
    tensorCount: tensors.length,
    variants: library.filter((other) => other.parentId === model.id),
    run: model.presetId === null ? null : { preset: model.presetId, seed: 0, lathe: '0.1.0' },
    outcome: null,
    kvBytesPerToken: model.status === 'unsupported' ? null : (layers ?? 1) * (keyValueHeads ?? 1) * (headDim ?? 64) * 2 * 2,
  }
}

export const PRESETS: readonly Preset[] = [
  {
    id: 'near-lossless-8bit',
    title: 'Near-lossless 8-bit',
    promise: 'Half the size; answers that are practically the same.',
    scheme: 'W8A16 channel',
    algorithm: 'Round to nearest',
    nominalBitsPerWeight: 8,
    qualityClass: 'near-lossless',
    fastOn: 'any GPU',
    recommended: false,
    needsCalibration: false,
    inputElements: [],
    outcome: null,
  },
  {
    id: 'fine-4bit',
    title: 'Fine 4-bit',
    promise: 'Small groups follow the weights closely; a third of the size.',
    scheme: 'W4A16 g32 asymmetric',
    algorithm: 'Round to nearest',
    nominalBitsPerWeight: 4.625,
    qualityClass: 'balanced',
    fastOn: 'any GPU',
    recommended: false,
    needsCalibration: false,
    inputElements: [],
    outcome: null,
  },
  {
    id: 'balanced-4bit',
    title: 'Balanced 4-bit',
    promise: 'About a quarter of the size with a small loss that you can measure.',
    scheme: 'W4A16 g128',
    algorithm: 'MSE scale search',
    nominalBitsPerWeight: 4.125,
    qualityClass: 'balanced',
    fastOn: 'any GPU',
    recommended: true,
    needsCalibration: false,
    inputElements: [],
    outcome: null,
  },
]

/** What the plain presets lack: arithmetic that adapters emulate, and promises that are measured. */
export const MEASURED_PRESETS: readonly Preset[] = [
  {
    id: 'near-lossless-fp8',
    title: 'Near-lossless FP8',
    promise: 'About half the size in 8-bit floating point.',
    scheme: 'FP8_DYNAMIC',
    algorithm: 'Round to nearest',
    nominalBitsPerWeight: 8,
    qualityClass: 'near-lossless',
    fastOn: 'NVIDIA Ada, Hopper and later',
    recommended: false,
    needsCalibration: false,
    inputElements: ['e4m3'],
    outcome: null,
  },
  {
    id: 'smallest-99',
    title: 'Smallest that holds 99 %',
    promise:
      'The fewest bits for each layer that keep 99 % of the original’s certainty, token for token. Layers are measured first; you may change the map.',
    scheme: 'W3A16 to W8A16, layer by layer',
    algorithm: 'Automatic mixed precision, GPTQ',
    nominalBitsPerWeight: 4.1,
    qualityClass: 'balanced',
    fastOn: 'any GPU',
    recommended: false,
    needsCalibration: true,
    inputElements: [],
    outcome: 'holds',
  },
]

export function predictionsOf(
  model: ModelSummary,
  contextTokens: number,
  library: readonly ModelSummary[],
  budgetBytes: number | null,
  presets: readonly Preset[] = PRESETS,
): PresetPrediction[] {
  const kvBytesPerToken = detailOf(model, library).kvBytesPerToken
  return presets.map((preset): PresetPrediction => {
    const skipped =
      model.isSample || model.parentId === SAMPLE.id ? [] : [{ name: 'lm_head.weight', reason: 'Tied to the embedding, which stays BF16.' }]
    const bits = preset.nominalBitsPerWeight + (16 - preset.nominalBitsPerWeight) * 0.115
    const weightBytes = Math.round((model.parameters * bits) / 8)
    return {
      preset,
      predicted:
        model.parentId === null
          ? {
              weightBytes,
              bitsPerWeight: bits,
              fit: { ...fitOf({ weightBytes, kvBytesPerToken, contextTokens, budgetBytes }), activationBytes: 2_400_000 },
              ...(preset.outcome === 'holds' ? { range: { leastBytes: weightBytes * 0.75, mostBytes: weightBytes * 1.8 } } : {}),
              skippedTensors: skipped,
              source: 'formula',
            }
          : null,
      blockedBy:
        model.parentId === null
          ? null
          : {
              code: 'compress.already-compressed',
              message: 'This variant is compressed already.',
              hint: 'Start from the original instead: compressing twice adds both errors.',
            },
      existingVariantId: library.find((other) => other.parentId === model.id && other.presetId === preset.id)?.id ?? null,
    }
  })
}

export const PROVENANCE: Provenance = {
  adapter: 'llvmpipe (LLVM 19.1, 256 bits)',
  adapterType: 'software',
  driver: 'lavapipe 25.1',
  latheVersion: '0.1.0',
  platform: 'linux-x64',
  measuredAt: '2026-11-22T14:20:00Z',
}

const KINDS = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'] as const

function tensorErrors(bits: number): TensorError[] {
  return Array.from({ length: 6 }, (_, layer) =>
    KINDS.map((kind, index): TensorError => {
      const sqnrDb = 6.02 * bits - 4 + 1.6 * Math.sin(layer * 1.7 + index * 2.3) - (kind === 'down_proj' ? 2.2 : 0)
      const relativeError = 10 ** (-sqnrDb / 20)
      return {
        name: `model.layers.${layer}.${index < 4 ? 'self_attn' : 'mlp'}.${kind}.weight`,
        layer,
        kind,
        scheme: bits === 8 ? 'W8A16 channel' : 'W4A16 g128',
        sqnrDb,
        relativeError,
        maxError: relativeError * 0.4,
        cosine: 1 - relativeError ** 2 / 2,
        bytes: index < 4 ? 65_536 : 163_840,
      }
    }),
  ).flat()
}

function spread(median: number): SampleStats {
  return { median, min: median * 0.97, max: median * 1.02, n: 5 }
}

function resultSet(
  model: ModelSummary,
  quality: { perplexity: number; kld: number | null; top1: number | null; accuracy: readonly number[] },
  speed: number,
): ResultSet {
  const baseline = model.id === SAMPLE.id
  const tasks = ['world_facts', 'reading', 'arithmetic', 'completion'] as const
  const titles = ['World facts', 'Reading', 'Arithmetic', 'Completion'] as const
  return {
    modelId: model.id,
    perplexity: {
      value: quality.perplexity,
      nll: Math.log(quality.perplexity),
      bitsPerByte: 0.1694,
      tokens: 35_027,
      bytes: 155_357,
      window: 512,
      protocol: 'rolling',
      standardError: 0.0061,
      dataset: 'demo perplexity text · 4f1c2a90',
      note: null,
    },
    drift:
      quality.kld === null || quality.top1 === null
        ? null
        : {
            baselineId: SAMPLE.id,
            kldMean: quality.kld,
            kldMeanStandardError: quality.kld / 40,
            kldMedian: quality.kld / 6,
            kldP90: quality.kld * 2.6,
            kldP99: quality.kld * 12,
            kldMax: quality.kld * 210,
            top1Agreement: quality.top1,
            top1AgreementStandardError: 0.0008,
            deltaPRms: quality.kld * 3,
            tokens: 35_027,
            dataset: 'demo perplexity text · 4f1c2a90',
            kldP95: quality.kld * 5,
            kldP999: quality.kld * 60,
            deltaPMean: -quality.kld / 4,
            deltaPP1: -quality.kld * 8,
            deltaPP99: quality.kld * 7,
            logPerplexityRatio: quality.kld / 3,
            logPerplexityRatioStandardError: quality.kld / 60,
            flips: Math.round(35_027 * (1 - quality.top1)),
            hasTokens: true,
          },
    tasks: tasks.map((name, index) => {
      const value = quality.accuracy[index] ?? 0
      return {
        name,
        title: titles[index] ?? name,
        metric: 'acc',
        value,
        standardError: Math.sqrt((value * (1 - value)) / 250),
        interval: [Math.max(0, value - 0.055), Math.min(1, value + 0.045)],
        n: 250,
        chance: 0.25,
        paired: baseline
          ? null
          : {
              baselineId: SAMPLE.id,
              difference: value - ([0.992, 0.628, 0.66, 0.972][index] ?? 0),
              interval: [-0.028, 0.02],
              recovery: value / ([0.992, 0.628, 0.66, 0.972][index] ?? 1),
              mcnemarP: 0.62,
              pairing: 'paired',
              standardError: 0.012,
              margin: 0.01,
              verdict: 'inconclusive',
              itemsNeeded: 1200,
              minimumDetectableDifference: 0.035,
              recoveryInterval: [0.95, 1.02],
              adjustedRecovery: null,
              adjustedRecoveryInterval: null,
              lost: 5,
              gained: 4,
              changed: 11,
              holmP: 1,
              logLikelihoodDifference: null,
              warnings: [],
            },
        dataset: `demo ${name} · 250 items`,
        task: name,
        filter: 'none',
        higherIsBetter: true,
        fewshot: 0,
        outputType: 'multiple_choice',
        primary: true,
        origin: 'measured',
        hasSamples: true,
        note: null,
      }
    }),
    throughput: {
      prefillTokensPerSecond: spread(speed * 14),
      decodeTokensPerSecond: spread(speed),
      timeToFirstTokenMs: spread(9600 / speed),
      promptTokens: 256,
      generatedTokens: 64,
      warmups: 1,
      repeats: 5,
      loadSeconds: 0.21,
      compileSeconds: 0.34,
      peakGpuBytes: model.weightBytes + 8_900_000,
      weightGpuBytes: model.weightBytes,
      kvGpuBytes: 6_291_456,
      interleavedWith: baseline ? null : SAMPLE.id,
      bandwidthShare: 0.41,
      versus: null,
      points: [],
    },
    served: null,
    tensorErrors: model.presetId === null ? [] : tensorErrors(model.presetId === 'near-lossless-8bit' ? 8 : 4),
    provenance: Object.fromEntries(['perplexity', 'drift', 'tasks', 'throughput', 'compression'].map((key) => [key, PROVENANCE])),
    protocolKeys: {
      perplexity: 'rolling-512-4f1c2a90',
      drift: 'kld-rolling-512-4f1c2a90',
      tasks: 'acc-sum-250',
      throughput: 'p256-g64-r5',
    },
  }
}

export const RESULTS: readonly ResultSet[] = [
  resultSet(SAMPLE, { perplexity: 1.6833, kld: null, top1: null, accuracy: [0.992, 0.628, 0.66, 0.972] }, 62),
  resultSet(SAMPLE_W8, { perplexity: 1.6834, kld: 0.00004, top1: 0.9991, accuracy: [0.992, 0.632, 0.66, 0.972] }, 88),
  resultSet(SAMPLE_W4, { perplexity: 1.6886, kld: 0.0048, top1: 0.9862, accuracy: [0.988, 0.616, 0.64, 0.972] }, 117),
]
