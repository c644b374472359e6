import { chmod, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { chooseEnergySource } from './choose-source.ts'
import type { EnergyChoice } from './energy-source.ts'
import { parseCount } from './sysfs-energy.ts'

let root = ''
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'lathe-sysfs-'))
})
afterEach(() => rm(root, { recursive: true, force: true }))

async function tree(files: Readonly<Record<string, string | number>>): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    // As the kernel does, whole at once: a reader must not meet a file that is being written.
    await writeFile(join(root, `${path}.new`), `${content}\n`)
    await rename(join(root, `${path}.new`), join(root, path))
  }
}

const NO_SMI = { command: 'no-such-nvidia-smi', leading: [] }
function choose(name: string, type: Parameters<typeof chooseEnergySource>[0]['type'], platform: NodeJS.Platform = 'linux') {
  return chooseEnergySource({ name, type }, { platform, sysfs: root, nvidiaSmi: NO_SMI })
}

const LAVAPIPE = 'llvmpipe (LLVM 19.1.7, 256 bits)'
const RAPL = 'class/powercap/intel-rapl'
const PACKAGE = {
  [`${RAPL}:0/name`]: 'package-0',
  [`${RAPL}:0/energy_uj`]: 65_000_000,
  [`${RAPL}:0/max_energy_range_uj`]: 65_712_999,
}

/** What was counted since a recording began, once `seconds` have passed on its clock. */
async function counted(choice: EnergyChoice, change: () => Promise<void>) {
  if ('reason' in choice) throw new Error(choice.reason)
  await using recording = await choice.record()
  const from = performance.now()
  await change()
  // The shortest run that there is a figure of; nothing to wait for but time.
  while (performance.now() < from + 1000) await new Promise((resolve) => setTimeout(resolve, from + 1000 - performance.now()))
  return recording.between(from, performance.now())
}

test('files with one whole number, and others (fuzz)', () => {
  expect(['12', ' 7\n', '0'].map(parseCount)).toEqual([12, 7, 0])
  expect(['', '-1', '1.5', 'N/A', '0x10', '9'.repeat(30)].map(parseCount)).toEqual([null, null, null, null, null, null])
  fc.assert(
    fc.property(fc.string(), (text) => {
      const value = parseCount(text)
      expect(value === null || (Number.isFinite(value) && value >= 0)).toBe(true)
    }),
    { seed: 20_261_123, numRuns: 300 },
  )
})

describe('RAPL, for what computes on the CPU', () => {
  test('packages are added up, each wraps at its own range, and parts of them are not counted twice', async () => {
    await tree({
      ...PACKAGE,
      [`${RAPL}:1/name`]: 'package-1',
      [`${RAPL}:1/energy_uj`]: 1_000_000,
      [`${RAPL}:1/max_energy_range_uj`]: 65_712_999,
      [`${RAPL}:0:0/name`]: 'core',
      [`${RAPL}:0:0/energy_uj`]: 9,
      [`${RAPL}:2/name`]: 'psys',
      [`${RAPL}:2/energy_uj`]: 9,
      'class/powercap/intel-rapl-mmio:0/name': 'package-0',
      'class/powercap/intel-rapl-mmio:0/energy_uj': 9,
    })
    const choice = await choose(LAVAPIPE, 'software')
    expect(choice).toMatchObject({ scope: 'cpu-package', counter: 'RAPL package-0 + package-1', method: 'counter' })
    // 0.712999 J to the end of the range and 10 after it, and 5 J of the other; a jump in the interval that the run begins in is partly before it.
    const window = await counted(choice, () => tree({ [`${RAPL}:0/energy_uj`]: 10_000_000, [`${RAPL}:1/energy_uj`]: 6_000_000 }))
    expect(window.kind).toBe('measured')
    const joules = window.kind === 'measured' ? window.joules : Number.NaN
    expect(joules).toBeGreaterThan(15.712999 * 0.7)
    expect(joules).toBeLessThanOrEqual(15.713)
  })

  test('a counter without a range that falls, and one that disappears, are not measured', async () => {
    await tree({ ...PACKAGE, [`${RAPL}:0/max_energy_range_uj`]: 'unknown' })
    const fell = await counted(await choose(LAVAPIPE, 'software'), () => tree({ [`${RAPL}:0/energy_uj`]: 5 }))
    expect(fell).toMatchObject({ kind: 'not-measured', reason: expect.stringMatching(/energy_uj went back during the run\.$/) })
    await tree(PACKAGE)
    const gone = await counted(await choose('Reference (f64 on the CPU)', 'reference'), () =>
      rm(join(root, `${RAPL}:0`), { recursive: true }),
    )
    expect(gone).toMatchObject({ kind: 'not-measured', reason: expect.stringMatching(/could not be read during the run\.$/) })
  })

  test('a counter for root only is named, with what opens it', async ({ skip }) => {
    if (process.getuid?.() === 0) return skip('root reads everything')
    await tree(PACKAGE)
    await chmod(join(root, `${RAPL}:0/energy_uj`), 0)
    expect(await choose(LAVAPIPE, 'software')).toEqual({
      reason: expect.stringMatching(/for root only here\..*sudo chmod a\+r .*energy_uj$/),
    })
  })

  test('without RAPL there is a reason, and a GPU beside a software adapter is not asked', async () => {
    const reason = 'This system shows no energy counter of its processor; virtual machines and containers have none.'
    expect(await choose(LAVAPIPE, 'software')).toEqual({ reason })
    await tree({ 'class/drm/card0/device/vendor': '0x1002', 'class/drm/card0/device/hwmon/hwmon3/power1_average': 9_000_000 })
    expect(await choose('SwiftShader Device (Subzero)', 'software')).toEqual({ reason })
  })
})

const card = (n: number, vendor: string, files: Readonly<Record<string, string | number>>) => ({
  [`class/drm/card${n}/device/vendor`]: vendor,
  [`class/drm/card${n}-DP-1/status`]: 'connected',
  ...Object.fromEntries(Object.entries(files).map(([name, value]) => [`class/drm/card${n}/device/hwmon/hwmon4/${name}`, value])),
})
const RX = 'AMD Radeon RX 7900 XTX (RADV NAVI31)'

describe('hwmon, for AMD and Intel', () => {
  test('energy before power; the average before the moment', async () => {
    await tree(card(1, '0x1002', { name: 'amdgpu', power1_input: 30_000_000 }))
    expect(await choose(RX, 'discrete')).toMatchObject({ scope: 'gpu-package', counter: 'amdgpu power1_input', method: 'power' })
    await tree(card(1, '0x1002', { power1_average: 31_000_000 }))
    expect(await choose(RX, 'discrete')).toMatchObject({ counter: 'amdgpu power1_average', method: 'power' })
    await tree(card(1, '0x1002', { energy1_input: 5_000_000 }))
    const choice = await choose(RX, 'discrete')
    expect(choice).toMatchObject({ counter: 'amdgpu energy1_input', method: 'counter' })
    const window = await counted(choice, () => tree(card(1, '0x1002', { energy1_input: 47_000_000 })))
    expect(window).toMatchObject({ kind: 'measured' })
    const joules = window.kind === 'measured' ? window.joules : Number.NaN
    expect(joules).toBeGreaterThan(42 * 0.7)
    expect(joules).toBeLessThanOrEqual(42)
  })

  test('sampled power is integrated', async () => {
    await tree(card(0, '0x1002', { name: 'amdgpu', power1_average: 50_000_000 }))
    const window = await counted(await choose(RX, 'discrete'), async () => {})
    expect(window).toMatchObject({ kind: 'measured' })
    expect(window.kind === 'measured' && window.joules / window.seconds).toBeCloseTo(50, 6)
  })

  test('two AMD GPUs are not told apart; an Arc beside Intel’s integrated GPU is', async () => {
    await tree({ ...card(0, '0x1002', { name: 'amdgpu', power1_average: 1 }), ...card(1, '0x1002', { name: 'amdgpu', power1_average: 2 }) })
    expect(await choose(RX, 'discrete')).toEqual({
      reason: 'There are 2 GPUs of this vendor, and nothing tells which of their counters belongs to this adapter.',
    })
    await tree({ ...card(2, '0x8086', {}), ...card(3, '0x8086', { name: 'i915', energy1_input: 7 }) })
    expect(await choose('Intel(R) Arc(tm) A770 Graphics (DG2)', 'discrete')).toMatchObject({ counter: 'i915 energy1_input' })
  })

  test('Intel’s integrated GPU is in the processor’s counter; other systems and GPUs have none', async () => {
    await tree(PACKAGE)
    expect(await choose('Intel(R) UHD Graphics 770 (ADL-S GT1)', 'integrated')).toMatchObject({ counter: 'RAPL package-0' })
    expect(await choose(RX, 'discrete')).toEqual({ reason: 'The driver of this GPU shows neither its energy nor its power.' })
    expect(await choose('Apple M3', 'integrated', 'darwin')).toEqual({
      reason: 'macOS shows energy to administrators only (powermetrics).',
    })
    expect(await choose(RX, 'discrete', 'win32')).toEqual({ reason: 'Windows shows the energy of NVIDIA GPUs only (nvidia-smi).' })
    expect(await choose('Mali-G710', 'integrated')).toEqual({ reason: 'Lathe knows no energy counter of Mali-G710.' })
  })
})
