import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { chooseEnergySource } from './choose-source.ts'
import type { EnergyChoice, EnergySource } from './energy-source.ts'
import { matchGpu, parseGpus, parsePowerLine, parseWatts } from './nvidia-energy.ts'

const SEED = 20_261_123
const FIELDS = ['pci.bus_id', 'mig.mode.current', 'power.draw.instant', 'power.draw', 'name']
const H200 = '00000000:19:00.0, Disabled, 75.93, 76.10, NVIDIA H200'

describe('what nvidia-smi prints', () => {
  test.each([
    ['75.93', 75.93],
    [' 700.00 ', 700],
    ['12.5 W', 12.5],
    ['0', 0],
    ['[N/A]', null],
    ['[Not Supported]', null],
    ['[Unknown Error]', null],
    ['[GPU is lost]', null],
    ['N/A', null],
    ['', null],
    ['-3', null],
    ['1e3', null],
    ['75,93', null],
    [undefined, null],
  ])('power %j is %j', (text, watts) => {
    expect(parseWatts(text)).toBe(watts)
  })

  test('rows of the probe, with names that have commas, and lines that are none', () => {
    const text = `${H200}\n00000000:3B:00.0, [N/A], [N/A], [Not Supported], Tesla, old\nNo devices were found\n\n`
    expect(parseGpus(text, FIELDS)).toEqual([
      {
        busId: '00000000:19:00.0',
        name: 'NVIDIA H200',
        isPartitioned: false,
        power: { 'power.draw.instant': '75.93', 'power.draw': '76.10' },
      },
      {
        busId: '00000000:3B:00.0',
        name: 'Tesla, old',
        isPartitioned: false,
        power: { 'power.draw.instant': '[N/A]', 'power.draw': '[Not Supported]' },
      },
    ])
  })

  test('a line of the sampling has its own time', () => {
    const one = parsePowerLine('2026/11/23 21:55:10.123, 68.42')
    const two = parsePowerLine('2026/11/23 21:55:10.223, [N/A]')
    expect(one).toMatchObject({ watts: 68.42 })
    expect(two).toMatchObject({ watts: null })
    expect(two!.atMs - one!.atMs).toBe(100)
    expect(parsePowerLine('Failed to initialize NVML: Driver/library version mismatch')).toBeNull()
  })

  test('anything else is refused and nothing throws (fuzz)', () => {
    const noise = fc.oneof(fc.string(), fc.stringMatching(/^[0-9/:., [\]NA-]{0,40}$/))
    fc.assert(
      fc.property(noise, (text) => {
        const watts = parseWatts(text)
        expect(watts === null || (Number.isFinite(watts) && watts >= 0)).toBe(true)
        const line = parsePowerLine(text)
        expect(line === null || Number.isFinite(line.atMs)).toBe(true)
        for (const gpu of parseGpus(text, FIELDS)) expect(gpu.busId).toMatch(/^[0-9A-Fa-f]+:/)
      }),
      { seed: SEED, numRuns: 500 },
    )
    const reading = fc.tuple(
      fc.date({ min: new Date(0), max: new Date(4e12), noInvalidDate: true }),
      fc.integer({ min: 0, max: 99_999_99 }),
    )
    fc.assert(
      fc.property(reading, ([date, hundredths]) => {
        const text = `${date.toISOString().replaceAll('-', '/').replace('T', ' ').replace('Z', '')}, ${(hundredths / 100).toFixed(2)}`
        expect(parsePowerLine(text)).toMatchObject({ atMs: date.getTime(), watts: hundredths / 100 })
      }),
      { seed: SEED, numRuns: 200 },
    )
  })
})

const gpus = (...names: readonly string[]) =>
  names.map((name, i) => ({ busId: `00000000:0${i}:00.0`, name, isPartitioned: false, power: {} }))

const matched = (names: readonly string[], adapter: string) => {
  const found = matchGpu(gpus(...names), adapter)
  return typeof found === 'string' ? found : found.busId
}

describe('which GPU an adapter is', () => {
  test('by its name, of which another may be the beginning', () => {
    expect(matched(['NVIDIA GeForce RTX 4070', 'NVIDIA GeForce RTX 4070 Ti'], 'NVIDIA GeForce RTX 4070 Ti')).toBe('00000000:01:00.0')
    expect(matched(['NVIDIA GeForce RTX 4070', 'NVIDIA GeForce RTX 4070 Ti'], 'NVIDIA GeForce RTX 4070')).toBe('00000000:00:00.0')
    expect(matched(['GeForce RTX 2080'], 'NVIDIA GeForce RTX 2080')).toBe('00000000:00:00.0')
  })

  test('two of one name, or none, are not guessed at', () => {
    expect(matched(['NVIDIA H200', 'NVIDIA H200'], 'NVIDIA H200')).toBe('nvidia-smi lists 2 GPUs that this adapter could be (NVIDIA H200).')
    expect(matched(['NVIDIA L4'], 'NVIDIA H200')).toBe('nvidia-smi lists no NVIDIA H200, only NVIDIA L4.')
    expect(matched([], 'NVIDIA H200')).toBe('nvidia-smi lists no NVIDIA H200.')
  })
})

/**
 * Stands in for nvidia-smi. Samples the past `seconds` at once, a tenth of a second apart and ending now, so that a test need not wait for a run;
 * then goes on at `everyMs` until it is killed. Says its process id.
 */
const SCRIPT = `
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
const { probe, oldProbe, refuses, watts, seconds, everyMs, dies, deaf, last } = JSON.parse(process.env.FAKE_SMI)
const query = process.argv.find((text) => text.startsWith('--query-gpu='))
if (!query.includes('timestamp')) {
  if (refuses === 'instant' && query.includes('instant')) {
    console.log('Field "power.draw.instant" is not a valid field to query.')
    process.exit(2)
  }
  if (refuses === 'all') {
    console.log("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")
    process.exit(9)
  }
  console.log(query.includes('instant') ? probe : oldProbe)
} else {
  if (deaf) process.on('SIGTERM', () => {})
  const endless = "setInterval(() => console.log(), 20); require('node:net').connect(process.env.FAKE_SMI_PORT)"
  if (deaf) spawn(process.execPath, ['-e', endless], { stdio: ['ignore', 'inherit', 'ignore'] })
  writeFileSync(process.env.FAKE_SMI_LOG, JSON.stringify({ pid: process.pid, query: process.argv.slice(2) }))
  const line = (ms) => new Date(ms).toISOString().replaceAll('-', '/').replace('T', ' ').replace('Z', '') + ', ' + watts
  const end = Date.now()
  // At once, as a pipe gives what was written while nobody read.
  const past = Array.from({ length: seconds * 10 + 1 }, (_, i) => line(end - (seconds * 10 - i) * 100))
  process.stdout.write([...past, ...(last ? [last] : [])].join('\\n') + '\\n')
  if (dies) process.exitCode = 15
  else setInterval(() => console.log(line(Date.now())), everyMs)
}
`

interface Fake {
  readonly probe?: string
  readonly oldProbe?: string
  readonly refuses?: 'instant' | 'all'
  readonly watts?: string
  readonly dies?: boolean
  readonly deaf?: boolean
  readonly last?: string
}

let folder = ''
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lathe-energy-'))
})
afterEach(async () => {
  delete process.env['FAKE_SMI']
  delete process.env['FAKE_SMI_LOG']
  await rm(folder, { recursive: true, force: true })
})

async function choose(fake: Fake, adapter = 'NVIDIA H200'): Promise<EnergyChoice> {
  const script = join(folder, 'smi.mjs')
  await writeFile(script, SCRIPT)
  process.env['FAKE_SMI'] = JSON.stringify({ probe: H200, watts: '200.00', seconds: 4, everyMs: 20, ...fake })
  process.env['FAKE_SMI_LOG'] = join(folder, 'log.json')
  const nvidiaSmi = { command: process.execPath, leading: [script] }
  return chooseEnergySource({ name: adapter, type: 'discrete' }, { platform: 'linux', sysfs: folder, nvidiaSmi })
}

async function sourceOf(fake: Fake): Promise<EnergySource> {
  const choice = await choose(fake)
  if ('reason' in choice) throw new Error(choice.reason)
  return choice
}

async function sampled(): Promise<{ readonly pid: number; readonly query: readonly string[] }> {
  return JSON.parse(await readFile(join(folder, 'log.json'), 'utf8'))
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** 3 s that ended half a second ago, which the fake has sampled already. */
const pastRun = (): [number, number] => [performance.now() - 3500, performance.now() - 500]

describe('sampling by one long-lived process', () => {
  test('a run of 3 s at 200 W is 600 J; the process is told one board and is gone afterwards', async () => {
    const source = await sourceOf({})
    expect(source).toMatchObject({ scope: 'gpu-board', counter: 'nvidia-smi power.draw.instant', method: 'power', intervalMs: 100 })
    const recording = await source.record()
    const window = await recording.between(...pastRun())
    const { joules, seconds } = window.kind === 'measured' ? window : { joules: Number.NaN, seconds: Number.NaN }
    expect(seconds).toBeCloseTo(3, 3)
    expect(joules).toBeCloseTo(200 * seconds, 6)
    const { pid, query } = await sampled()
    expect(query).toEqual([
      '--id=00000000:19:00.0',
      '--query-gpu=timestamp,power.draw.instant',
      '--format=csv,noheader,nounits',
      '--loop-ms=100',
    ])
    expect(isAlive(pid)).toBe(true)
    await recording[Symbol.asyncDispose]()
    expect(isAlive(pid)).toBe(false)
    expect(await recording.between(...pastRun())).toEqual({ kind: 'not-measured', reason: 'The readings had ended.' })
  })

  test('the end of the run is waited for', async () => {
    await using recording = await (await sourceOf({})).record()
    const now = performance.now()
    expect(await recording.between(now - 2000, now + 100)).toMatchObject({ kind: 'measured' })
  })

  test('a process that dies midway: what it covered stands, what came later is not measured', async () => {
    await using recording = await (await sourceOf({ dies: true })).record()
    const now = performance.now()
    expect(await recording.between(now, now + 5000)).toEqual({
      kind: 'not-measured',
      reason: 'nvidia-smi ended during the run (exit code 15).',
    })
    expect(await recording.between(now - 3500, now - 1000)).toMatchObject({ kind: 'measured' })
  })

  test('samples without a number, and lines that are none, are reasons', async () => {
    await using silent = await (await sourceOf({ watts: '[N/A]' })).record()
    expect(await silent.between(...pastRun())).toEqual({ kind: 'not-measured', reason: 'nvidia-smi gave no number for the power.' })
    await using broken = await (await sourceOf({ last: 'Unable to determine the device handle' })).record()
    await broken.between(performance.now() - 3000, performance.now() + 200)
    expect(await broken.between(...pastRun())).toEqual({
      kind: 'not-measured',
      reason: 'nvidia-smi wrote "Unable to determine the device handle" instead of a power.',
    })
  })
})

test('one that does not end when it is asked to is killed; a script around the real one does not hold the run up', async () => {
  // Its own child, which writes into the same pipe, calls here: that it is gone shows as the end of the call.
  const called = Promise.withResolvers<Socket>()
  const server = createServer(called.resolve)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  process.env['FAKE_SMI_PORT'] = String((server.address() as AddressInfo).port)
  const recording = await (await sourceOf({ deaf: true })).record()
  const { pid } = await sampled()
  const call = await called.promise
  const gone = new Promise((resolve) => call.on('error', resolve).on('close', resolve))
  await recording[Symbol.asyncDispose]()
  expect(isAlive(pid)).toBe(false)
  await gone
  server.close()
  delete process.env['FAKE_SMI_PORT']
})

describe('no source, and why', () => {
  test('drivers without the momentary power are asked for the other', async () => {
    expect(await choose({ refuses: 'instant', oldProbe: '00000000:19:00.0, 76.10, NVIDIA H200' })).toMatchObject({
      counter: 'nvidia-smi power.draw',
    })
    expect(await choose({ probe: '00000000:19:00.0, Disabled, [N/A], 76.10, NVIDIA H200' })).toMatchObject({
      counter: 'nvidia-smi power.draw',
    })
  })

  test.each([
    [{ probe: '00000000:19:00.0, [N/A], [N/A], [N/A], NVIDIA H200' }, 'nvidia-smi shows no power of NVIDIA H200: [N/A].'],
    [
      { probe: '00000000:19:00.0, Enabled, 75.93, 76.10, NVIDIA H200' },
      'NVIDIA H200 is partitioned (MIG): its power is that of all its partitions together.',
    ],
    [{ probe: `${H200}\n${H200}` }, 'nvidia-smi lists 2 GPUs that this adapter could be (NVIDIA H200).'],
    [{ refuses: 'all' }, "nvidia-smi failed: NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."],
  ] as const)('%j', async (fake, reason) => {
    expect(await choose(fake)).toEqual({ reason })
  })

  test('nvidia-smi is not there', async () => {
    const nvidiaSmi = { command: join(folder, 'absent'), leading: [] }
    expect(await chooseEnergySource({ name: 'NVIDIA H200', type: 'discrete' }, { platform: 'linux', sysfs: folder, nvidiaSmi })).toEqual({
      reason: 'nvidia-smi is not there; it comes with NVIDIA’s driver.',
    })
  })
})
