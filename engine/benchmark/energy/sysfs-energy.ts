/**
 * Energy as Linux shows it in files: RAPL for CPU packages (/sys/class/powercap), hwmon for AMD and Intel GPUs (/sys/class/drm). Energy counters
 * are preferred to sampled power. Files are small and read without waking anything; a tenth of a second apart is enough for either.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { EnergyScope } from '../../contract/index.ts'
import type { EnergyChoice, EnergyRecording, EnergySource } from './energy-source.ts'
import { createUnwrap, EnergyTrace, notMeasured } from './energy-trace.ts'
import type { EnergyWindow } from './energy-trace.ts'

const INTERVAL_MS = 100
/** Files are in microjoules and microwatts. */
const MICRO = 1e-6

/** A file with one whole number; null where it is absent or says something else. */
export function parseCount(text: string): number | null {
  return /^\d{1,18}$/.test(text.trim()) ? Number(text) : null
}

const isCode = (error: unknown, ...codes: readonly string[]): boolean =>
  error instanceof Error && 'code' in error && codes.includes(String(error.code))

async function textOf(path: string): Promise<string | null> {
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch {
    return null // absent, or not for this user: the same to whoever looks for another
  }
}

interface Reader {
  readonly path: string
  /** Microjoules after which a counter starts again; null = never, or power. */
  readonly range: number | null
}

/** Reads the files every tenth of a second and adds them up. */
function fileSource(readers: readonly Reader[], facts: Pick<EnergySource, 'scope' | 'counter' | 'method'>): EnergySource {
  return {
    ...facts,
    intervalMs: INTERVAL_MS,
    async record() {
      const recording = new FileRecording(readers, facts.method)
      await recording.read()
      recording.start()
      return recording
    },
  }
}

class FileRecording implements EnergyRecording {
  readonly #readers: readonly (Reader & { readonly total: (value: number) => number | null })[]
  readonly #trace: EnergyTrace
  #timer: NodeJS.Timeout | null = null
  #ended = false
  /** One after the other: a value that overtook another would look like a counter that started again. */
  #reading = Promise.resolve()

  constructor(readers: readonly Reader[], method: 'counter' | 'power') {
    this.#readers = readers.map((reader) => ({ ...reader, total: method === 'power' ? (value) => value : createUnwrap(reader.range) }))
    this.#trace = new EnergyTrace(method)
  }

  start(): void {
    if (this.#ended) return
    this.#timer = setTimeout(() => void this.read().then(() => this.start()), INTERVAL_MS)
    this.#timer.unref()
  }

  read(): Promise<void> {
    this.#reading = this.#reading.then(() => this.#readOnce())
    return this.#reading
  }

  async #readOnce(): Promise<void> {
    const before = performance.now()
    let sum = 0
    for (const { path, total } of this.#readers) {
      const value = parseCount((await textOf(path)) ?? '')
      if (value === null) return this.#trace.fail(`${path} could not be read during the run.`)
      const unwrapped = total(value)
      if (unwrapped === null) return this.#trace.fail(`The counter ${path} went back during the run.`)
      sum += unwrapped
    }
    this.#trace.add((before + performance.now()) / 2, sum * MICRO)
  }

  async between(fromMs: number, toMs: number): Promise<EnergyWindow> {
    if (this.#ended) return notMeasured('The readings had ended.')
    if (this.#trace.lastMs < toMs) await this.read()
    return this.#trace.between(fromMs, toMs)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true
    if (this.#timer !== null) clearTimeout(this.#timer)
  }
}

/** All CPU packages of the machine: threads go to any of them. */
export async function raplSource(root: string): Promise<EnergyChoice> {
  const folder = join(root, 'class/powercap')
  // intel-rapl:0:1 is a part of intel-rapl:0, intel-rapl-mmio:0 the same counter again, and psys a platform whose extent nobody states.
  const zones = (await readdir(folder).catch(() => [])).filter((name) => /^intel-rapl:\d+$/.test(name)).toSorted()
  const readers: Reader[] = []
  const names: string[] = []
  for (const zone of zones) {
    const name = await textOf(join(folder, zone, 'name'))
    if (name === null || !name.startsWith('package')) continue
    const path = join(folder, zone, 'energy_uj')
    try {
      if (parseCount(await readFile(path, 'utf8')) === null) continue
    } catch (error) {
      if (!isCode(error, 'EACCES', 'EPERM')) continue
      return {
        reason: `The processor’s energy counter is for root only here. To let everybody read it until the next start: sudo chmod a+r ${join(folder, 'intel-rapl:*', 'energy_uj')}`,
      }
    }
    readers.push({ path, range: parseCount((await textOf(join(folder, zone, 'max_energy_range_uj'))) ?? '') })
    names.push(name)
  }
  if (readers.length === 0)
    return { reason: 'This system shows no energy counter of its processor; virtual machines and containers have none.' }
  return fileSource(readers, { scope: 'cpu-package', counter: `RAPL ${names.join(' + ')}`, method: 'counter' })
}

interface CardFile {
  readonly path: string
  readonly counter: string
  readonly method: 'counter' | 'power'
}

/** PCI vendors as sysfs writes them. */
export const VENDORS = { amd: '0x1002', intel: '0x8086' } as const
export type GpuVendor = keyof typeof VENDORS

/**
 * The one GPU of a vendor. WebGPU names a device and no address, and sysfs has no such names, so with several it is unknown which is which; but
 * Intel's integrated ones have no counter of their own, so that the one that has is the card.
 */
export async function hwmonSource(root: string, vendor: GpuVendor, scope: EnergyScope): Promise<EnergyChoice> {
  const folder = join(root, 'class/drm')
  const entries = (await readdir(folder).catch(() => [])).filter((name) => /^card\d+$/.test(name)).toSorted()
  const cards: (CardFile | null)[] = []
  for (const entry of entries) {
    const device = join(folder, entry, 'device')
    if ((await textOf(join(device, 'vendor'))) === VENDORS[vendor]) cards.push(await cardFile(device))
  }
  const known = cards.filter((card) => card !== null)
  const [card] = known
  if (card === undefined) return { reason: 'The driver of this GPU shows neither its energy nor its power.' }
  if (known.length > 1 || (vendor === 'amd' && cards.length > 1)) {
    return { reason: `There are ${cards.length} GPUs of this vendor, and nothing tells which of their counters belongs to this adapter.` }
  }
  return fileSource([{ path: card.path, range: null }], { scope, counter: card.counter, method: card.method })
}

/** Energy before average power before momentary power. */
const CARD_FILES = [
  { file: 'energy1_input', method: 'counter' },
  { file: 'power1_average', method: 'power' },
  { file: 'power1_input', method: 'power' },
] as const

async function cardFile(device: string): Promise<CardFile | null> {
  for (const monitor of (await readdir(join(device, 'hwmon')).catch(() => [])).toSorted()) {
    const driver = (await textOf(join(device, 'hwmon', monitor, 'name'))) ?? 'hwmon'
    for (const { file, method } of CARD_FILES) {
      const path = join(device, 'hwmon', monitor, file)
      if (parseCount((await textOf(path)) ?? '') !== null) return { path, counter: `${driver} ${file}`, method }
    }
  }
  return null
}
