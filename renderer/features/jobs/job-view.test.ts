import { describe, expect, test } from 'vitest'
import type { Job } from '../../../engine/contract/index.ts'
import { milestoneOf } from '../../shell/job-announcer.tsx'
import { FakeEngine } from '../../test/fake-engine.ts'
import { elapsedSeconds, layerBars, layerLine, layerSummary, takenOverLine, ordinal, stalledSeconds, statusLine } from './job-view.ts'
import { overallProgress, splitJobs } from './queries.ts'

const engine = new FakeEngine()
const running: Job = engine.newJob({
  kind: 'compress',
  modelId: 'm',
  title: 'A → B',
  state: 'running',
  startedAt: '2026-11-23T12:00:00Z',
  etaSeconds: 250,
  rate: { value: 187_000_000, unit: 'bytes' },
  phases: [
    { id: 'quantize', title: 'Quantize', state: 'running', done: 17, total: 43, unit: 'tensors' },
    { id: 'write', title: 'Write', state: 'pending', done: 0, total: 0, unit: 'bytes' },
  ],
})

function job(id: string, change: Partial<Job>): Job {
  return { ...running, id, ...change }
}

describe('status line', () => {
  test('says what is known and nothing else', () => {
    expect(statusLine(running, 0)).toEqual(['Quantize 17 of 43 tensors', '187 MB/s', 'about 4 min left'])
    expect(statusLine({ ...running, etaSeconds: null, rate: null }, 0)).toEqual(['Quantize 17 of 43 tensors'])
    expect(statusLine({ ...running, state: 'cancelling' }, 0)).toEqual(['finishing the current step of quantize'])
    expect(statusLine({ ...running, state: 'queued', queuePosition: 1 }, 0)).toEqual(['next in the queue'])
    expect(statusLine({ ...running, state: 'queued', queuePosition: 3 }, 0)).toEqual(['3rd in the queue'])
    expect(statusLine({ ...running, state: 'succeeded' }, 0)).toEqual([])
  })

  test('a stall takes the promise away, whether the engine reports it or falls silent', () => {
    expect(statusLine(running, 16)).toEqual(['Quantize 17 of 43 tensors', '187 MB/s'])
    expect([stalledSeconds(running, 15), stalledSeconds(running, 20), stalledSeconds({ ...running, stalledSeconds: 18 }, 2.4)]).toEqual([
      null,
      20,
      20,
    ])
    expect(stalledSeconds({ ...running, state: 'queued', stalledSeconds: 99 }, 0)).toBeNull()
  })

  test('elapsed time stops with the job', () => {
    expect(elapsedSeconds(running, Date.parse('2026-11-23T12:01:30Z'))).toBe(90)
    expect(elapsedSeconds({ ...running, endedAt: '2026-11-23T12:00:10Z' }, Date.parse('2026-11-23T12:01:30Z'))).toBe(10)
    expect(elapsedSeconds({ ...running, startedAt: null }, 0)).toBeNull()
  })

  test('ordinals', () => {
    expect([1, 2, 3, 4, 11, 12, 13, 21, 22].map(ordinal)).toEqual(['1st', '2nd', '3rd', '4th', '11th', '12th', '13th', '21st', '22nd'])
  })
})

describe('lists', () => {
  test('running first, the queue in its order, the newest result on top', () => {
    const lists = splitJobs([
      job('old', { state: 'succeeded', endedAt: '2026-11-20T00:00:00Z' }),
      job('second', { state: 'queued', queuePosition: 2 }),
      job('new', { state: 'failed', endedAt: '2026-11-22T00:00:00Z' }),
      job('first', { state: 'queued', queuePosition: 1 }),
      job('now', { state: 'cancelling' }),
    ])
    expect([lists.running, lists.queued, lists.finished].map((list) => list.map((entry) => entry.id))).toEqual([
      ['now'],
      ['first', 'second'],
      ['new', 'old'],
    ])
    expect(overallProgress([job('a', { progress: 0.5 }), job('b', { progress: 0 })])).toBe(0.25)
  })
})

describe('milestones', () => {
  test('are ends, starts and phases, never percents', () => {
    expect(milestoneOf(running, { ...running, progress: 0.7 })).toBeNull()
    expect(milestoneOf(running, { ...running, state: 'succeeded' })).toEqual({ text: 'A → B: finished', ended: true })
    expect(milestoneOf(running, { ...running, state: 'cancelling' })).toBeNull()
    expect(milestoneOf(undefined, { ...running, state: 'queued' })).toEqual({ text: 'A → B: queued', ended: false })
    const [first, second] = running.phases
    expect(
      milestoneOf(running, {
        ...running,
        phases: [
          { ...first!, state: 'done' },
          { ...second!, state: 'running' },
        ],
      }),
    ).toEqual({ text: 'A → B: Write', ended: false })
  })
})

describe('layers', () => {
  const layers = {
    total: 4,
    current: 2,
    note: 'GPTQ down_proj',
    metric: 'output' as const,
    finished: [
      { layer: 0, error: 0.04, seconds: 1 },
      { layer: 1, error: 0.01, seconds: 1 },
    ],
    deviceBytes: null,
    secondsLeft: null,
    takenOver: null,
  }

  test('are bars against the worst one so far', () => {
    expect(layerBars(layers)).toEqual([
      { layer: 0, state: 'done', share: 1, title: 'Layer 0: 4.0 %, 1.0 s' },
      { layer: 1, state: 'done', share: 0.25, title: 'Layer 1: 1.0 %, 1.0 s' },
      { layer: 2, state: 'current', share: 0, title: 'Layer 2: GPTQ down_proj' },
      { layer: 3, state: 'pending', share: 0, title: 'Layer 3: to come' },
    ])
    expect(layerBars({ ...layers, finished: [{ layer: 0, error: null, seconds: null }] })[0]).toMatchObject({
      share: 0,
      title: 'Layer 0: not measured',
    })
  })

  test('say what another variant had', () => {
    const takenOver = { from: 'Pebble · Balanced 4-bit', layers: [0], ofLayers: 4, tensors: 9, ofTensors: 40 }
    const raised = { ...layers, takenOver }
    expect(layerBars(raised).map(({ state }) => state)).toEqual(['taken', 'done', 'current', 'pending'])
    expect(layerBars(raised)[0]?.title).toBe('Layer 0: 4.0 %, taken over')
    expect([takenOverLine(layers), takenOverLine(raised), takenOverLine({ ...raised, takenOver: { ...takenOver, layers: [] } })]).toEqual([
      null,
      '1 of 4 layers taken over from Pebble · Balanced 4-bit',
      '9 of 40 tensors taken over from Pebble · Balanced 4-bit',
    ])
  })

  test('are told in words', () => {
    expect(layerSummary(layers)).toEqual({ last: { layer: 1, error: 0.01 }, worst: { layer: 0, error: 0.04 } })
    expect(layerSummary({ ...layers, finished: [] })).toEqual({ last: null, worst: null })
    expect([layerLine(layers), layerLine({ ...layers, current: null }), layerLine(null)]).toEqual([
      'Layer 2 (3 of 4): GPTQ down_proj',
      null,
      null,
    ])
  })
})
