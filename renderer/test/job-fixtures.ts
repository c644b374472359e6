/** One job in every state, for the jobs screens. */
import type { JobPhase } from '../../engine/contract/index.ts'
import type { FakeEngine } from './fake-engine.ts'
import { SAMPLE } from './fixtures.ts'

export function mixedJobs(engine: FakeEngine): void {
  engine.setJob(
    engine.newJob({
      kind: 'compress',
      modelId: 'm-qwen3',
      title: 'Qwen3-0.6B → Balanced 4-bit',
      presetId: 'balanced-4bit',
      state: 'succeeded',
      phases: phases(6),
      progress: 1,
      variantId: 'm-pebble-w4',
      startedAt: at(64),
      endedAt: at(61),
      createdAt: at(65),
      peakRssBytes: 388_000_000,
    }),
  )
  engine.setJob(
    engine.newJob({
      kind: 'compress',
      modelId: 'm-qwen3',
      title: 'Qwen3-0.6B → Fine 4-bit',
      presetId: 'fine-4bit',
      state: 'failed',
      phases: phases(2),
      progress: 0.41,
      startedAt: at(30),
      endedAt: at(29),
      createdAt: at(31),
      resumable: true,
      error: {
        code: 'disk.full',
        message: 'The disk of /home/ada has 12.0 MB free; this file needs 214 MB.',
        hint: 'Free some space, then resume: 17 of 43 tensors are kept.',
      },
    }),
  )
  engine.setJob(
    engine.newJob({
      kind: 'evaluate',
      modelId: SAMPLE.id,
      title: 'Pebble-Tidewater: evaluation',
      state: 'interrupted',
      phases: phases(4),
      progress: 0.6,
      startedAt: at(200),
      createdAt: at(201),
      resumable: true,
    }),
  )
  engine.setJob(
    engine.newJob({
      kind: 'compress',
      modelId: SAMPLE.id,
      title: 'Pebble-Tidewater → Near-lossless 8-bit',
      presetId: 'near-lossless-8bit',
      state: 'running',
      phases: phases(1),
      progress: 0.22,
      startedAt: at(1.4),
      createdAt: at(2),
      etaSeconds: 250,
      currentItem: 'model.layers.2.mlp.down_proj.weight',
      layers: {
        total: 6,
        current: 3,
        note: 'GPTQ down_proj',
        metric: 'output',
        finished: [0.012, 0.034, 0.021].map((error, layer) => ({ layer, error, seconds: 4.2 })),
        deviceBytes: 96_000_000,
        secondsLeft: 14,
        takenOver: null,
      },
      rate: { value: 187_000_000, unit: 'bytes' },
      peakRssBytes: 214_000_000,
      stalledSeconds: 0,
    }),
  )
  engine.setJob(
    engine.newJob({
      kind: 'compress',
      modelId: SAMPLE.id,
      title: 'Pebble-Tidewater → Balanced 4-bit, layer 4 down_proj as W8A16 g128',
      state: 'succeeded',
      phases: phases(6),
      progress: 1,
      variantId: 'm-pebble-w4',
      startedAt: at(12),
      endedAt: at(11),
      createdAt: at(12),
      peakRssBytes: 214_000_000,
      layers: {
        total: 6,
        current: null,
        note: null,
        metric: 'output',
        finished: [0.012, 0.034, 0.021, 0.028, 0.011, 0.019].map((error, layer) => ({ layer, error, seconds: layer < 4 ? null : 4.2 })),
        deviceBytes: 96_000_000,
        secondsLeft: null,
        takenOver: { from: 'Pebble-Tidewater · Balanced 4-bit', layers: [0, 1, 2, 3], ofLayers: 6, tensors: 38, ofTensors: 57 },
      },
    }),
  )
  engine.setJob(
    engine.newJob({
      kind: 'compress',
      modelId: SAMPLE.id,
      title: 'Pebble-Tidewater → Fine 4-bit',
      presetId: 'fine-4bit',
      phases: phases(-1),
      queuePosition: 1,
    }),
  )
}

function phases(current: number): JobPhase[] {
  return ['Read', 'Quantize', 'Write', 'Verify', 'Perplexity', 'Tasks'].map((title, index) => ({
    id: title.toLowerCase(),
    title,
    state: index < current ? ('done' as const) : index === current ? ('running' as const) : ('pending' as const),
    done: index < current ? 43 : index === current ? 17 : 0,
    total: 43,
    unit: 'tensors',
  }))
}

function at(minutes: number): string {
  return new Date(Date.now() - minutes * 60_000).toISOString()
}
