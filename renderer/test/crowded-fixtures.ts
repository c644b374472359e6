/** A family of eight on the board, for looking at what crowds: long names, points that lie together, missing figures, a server's model, a published file. */
import type { ModelSummary, ResultSet } from '../../engine/contract/index.ts'
import { PROVENANCE, RESULTS, SAMPLE, SAMPLE_W4, SAMPLE_W8 } from './fixtures.ts'

const LONG = 'Meta-Llama-3.1-8B-Instruct-finetuned-customer-support-2026-10'

function renamed(model: ModelSummary, change: Partial<ModelSummary>): ModelSummary {
  return { ...model, ...change }
}

const SOURCE = renamed(SAMPLE, { name: LONG, isSample: false })
const W8 = renamed(SAMPLE_W8, { name: `${LONG} · Near-lossless 8-bit` })
const W4 = renamed(SAMPLE_W4, { name: `${LONG} · Balanced 4-bit` })
const variant = (index: number, title: string, weightBytes: number, scheme: string): ModelSummary =>
  renamed(SAMPLE_W4, {
    id: `m-crowd-${index}`,
    name: `${LONG} · ${title}`,
    createdAt: `2026-11-22T15:0${index}:00Z`,
    weightBytes,
    diskBytes: weightBytes + 190_000,
    scheme,
  })
const FINE = variant(1, 'Fine 4-bit with importance-weighted scale search and per-layer overrides', 3_420_000, 'W4A16 g32 asymmetric')
const QUICK = variant(2, 'Quick 4-bit', 3_205_000, 'W4A16 g128')
const THREE = variant(3, 'Smallest 3-bit', 2_700_000, 'W3A16 g64')
const REMOTE = renamed(variant(4, '', 0, ''), {
  name: 'meta-llama/Llama-3.1-8B-Instruct @ vllm-prod-eu-west-1.internal:8000',
  origin: 'remote',
  path: 'http://vllm-prod-eu-west-1.internal:8000/v1',
  weightBytes: 0,
  diskBytes: 0,
  parameters: 0,
  bitsPerWeight: 0,
})
const PUBLISHED = renamed(variant(5, '', 0, ''), {
  name: 'results_2026-10-02T11-04.json (published)',
  origin: 'published',
  path: '',
  weightBytes: 0,
  diskBytes: 0,
  parameters: 0,
  bitsPerWeight: 0,
})

export const CROWDED_LIBRARY: readonly ModelSummary[] = [SOURCE, W8, W4, FINE, QUICK, THREE, REMOTE, PUBLISHED]

const [source, w8, w4] = RESULTS as unknown as readonly [ResultSet, ResultSet, ResultSet]

function scaled(model: ModelSummary, factor: number, change: Partial<ResultSet> = {}): ResultSet {
  const { drift, perplexity, throughput } = w4
  return {
    ...w4,
    modelId: model.id,
    drift: drift === null ? null : { ...drift, kldMean: (drift.kldMean ?? 0) * factor, kldMeanStandardError: 0.00012 * factor },
    perplexity: perplexity === null ? null : { ...perplexity, value: 1.6833 + 0.0053 * factor },
    throughput:
      throughput === null
        ? null
        : {
            ...throughput,
            decodeTokensPerSecond: {
              ...throughput.decodeTokensPerSecond,
              median: 117 - 6 * factor,
              min: 113 - 6 * factor,
              max: 119 - 6 * factor,
            },
            peakGpuBytes: model.weightBytes + 8_900_000,
          },
    ...change,
  }
}

const ON_SERVER = {
  ...PROVENANCE,
  adapter: 'remote: http://vllm-prod-eu-west-1.internal:8000/v1',
  adapterType: 'unknown',
  driver: 'meta-llama/Llama-3.1-8B-Instruct, vllm 0.25.1',
} as const
const OTHER_MACHINE = { ...PROVENANCE, adapter: 'NVIDIA GeForce RTX 4090', adapterType: 'discrete', driver: 'NVIDIA 575.64' } as const

export const CROWDED_RESULTS: readonly ResultSet[] = [
  source,
  w8,
  w4,
  scaled(FINE, 0.55),
  scaled(QUICK, 1.04),
  // on another machine, and without tasks
  scaled(THREE, 6.2, { tasks: [], provenance: { ...w4.provenance, throughput: OTHER_MACHINE } }),
  // what two engines tell of each other is a bound
  scaled(REMOTE, 1.3, {
    throughput: null,
    tensorErrors: [],
    drift: w4.drift === null ? null : { ...w4.drift, kldMean: 0.0057, boundedByTop: 20 },
    provenance: { perplexity: ON_SERVER, drift: ON_SERVER, tasks: ON_SERVER },
    protocolKeys: { ...w4.protocolKeys, perplexity: `${w4.protocolKeys['perplexity']}:served`, drift: `${w4.protocolKeys['drift']}:top20` },
  }),
  scaled(PUBLISHED, 1, {
    perplexity: null,
    throughput: null,
    tensorErrors: [],
    drift: null,
    tasks: w4.tasks.slice(0, 2).map((task) => ({ ...task, origin: 'published', paired: null, hasSamples: false })),
  }),
]
