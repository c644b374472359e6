/**
 * Power of an NVIDIA board from `nvidia-smi`, which comes with every driver. It prints no energy counter (NVML's
 * nvmlDeviceGetTotalEnergyConsumption has none of its query fields), so power is sampled by one long-lived process and integrated.
 * `power.draw.instant` is asked for first: `power.draw` is a mean over the last second from Ampere on. On A100 and H100 the sensor looks at 25 of
 * every 100 ms (arXiv:2312.02741), so figures are of runs of seconds, not of steps.
 */
import { execFile, spawn } from 'node:child_process'
import type { ChildProcessByStdio } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { promisify } from 'node:util'
import type { EnergyChoice, EnergyRecording, EnergySource } from './energy-source.ts'
import { EnergyTrace, notMeasured } from './energy-trace.ts'
import type { EnergyWindow } from './energy-trace.ts'

/** What is run; tests put a script of their own in its place. */
export interface NvidiaSmi {
  readonly command: string
  readonly leading: readonly string[]
}

const INTERVAL_MS = 100
/** It wakes a sleeping driver, which takes seconds on some laptops. */
const START_MS = 5000
/** A reading that covers the end of a run is there after one interval; a busy machine is given more. */
const SETTLE_MS = 1500
const KILL_MS = 1000
/** So many readings without a number at the start, and there will be none. */
const MOST_MISSING = 5

const PROBES = [
  ['pci.bus_id', 'mig.mode.current', 'power.draw.instant', 'power.draw', 'name'],
  // drivers before 525
  ['pci.bus_id', 'power.draw', 'name'],
] as const
const POWER_FIELDS = ['power.draw.instant', 'power.draw'] as const

/** Watts; null for "[N/A]", "[Not Supported]", "[Unknown Error]" and whatever else is no number. */
export function parseWatts(text: string | undefined): number | null {
  const match = /^\s*(\d{1,6}(?:\.\d{1,6})?)(?: W)?\s*$/.exec(text ?? '')
  return match === null ? null : Number(match[1])
}

export interface NvidiaGpu {
  readonly busId: string
  readonly name: string
  readonly isPartitioned: boolean
  /** By field, what stood there. */
  readonly power: Readonly<Record<string, string>>
}

/** Rows of the probe. Names come last, so that whatever is in them is theirs. Rows of another form are left out. */
export function parseGpus(text: string, fields: readonly string[]): NvidiaGpu[] {
  return text.split('\n').flatMap((line): NvidiaGpu[] => {
    const cells = line.split(',').map((cell) => cell.trim())
    if (cells.length < fields.length) return []
    const cell = (field: string): string => cells[fields.indexOf(field)] ?? ''
    const busId = cell('pci.bus_id')
    if (!/^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]$/i.test(busId)) return []
    return [
      {
        busId,
        name: cells.slice(fields.length - 1).join(', '),
        isPartitioned: cell('mig.mode.current') === 'Enabled',
        power: Object.fromEntries(POWER_FIELDS.filter((field) => fields.includes(field)).map((field) => [field, cell(field)])),
      },
    ]
  })
}

/** The row of an adapter's name, or the only one that the name can mean; otherwise why it is unknown. */
export function matchGpu(gpus: readonly NvidiaGpu[], adapterName: string): NvidiaGpu | string {
  const exact = gpus.filter(({ name }) => name === adapterName)
  const found = exact.length > 0 ? exact : gpus.filter(({ name }) => name !== '' && adapterName.includes(name))
  const [gpu] = found
  if (found.length > 1) return `nvidia-smi lists ${found.length} GPUs that this adapter could be (${adapterName}).`
  if (gpu !== undefined) return gpu
  return `nvidia-smi lists no ${adapterName}${gpus.length === 0 ? '' : `, only ${gpus.map(({ name }) => name).join(', ')}`}.`
}

/** One line of the sampling: its own time in ms (of no particular zone), and watts or null. */
export function parsePowerLine(line: string): { readonly atMs: number; readonly watts: number | null } | null {
  const match = /^(\d{4})\/(\d\d)\/(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{3}),(.*)$/.exec(line.trim())
  if (match === null) return null
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, ms = 0] = match.slice(1, 8).map(Number)
  return { atMs: Date.UTC(year, month - 1, day, hour, minute, second, ms), watts: parseWatts(match[8]) }
}

const run = promisify(execFile)

/** Throws nothing: what goes wrong is the reason. */
async function probe(tool: NvidiaSmi): Promise<NvidiaGpu[] | string> {
  let trouble = ''
  for (const fields of PROBES) {
    try {
      const query = [...tool.leading, `--query-gpu=${fields.join(',')}`, '--format=csv,noheader,nounits']
      const { stdout } = await run(tool.command, query, { timeout: START_MS, maxBuffer: 1 << 20 })
      return parseGpus(stdout, fields)
    } catch (error) {
      const failed = error as Partial<Record<'code' | 'stdout' | 'killed', unknown>>
      if (failed.code === 'ENOENT') return 'nvidia-smi is not there; it comes with NVIDIA’s driver.'
      if (failed.killed === true) return `nvidia-smi did not answer within ${START_MS / 1000} s.`
      trouble =
        String(failed.stdout ?? '')
          .trim()
          .split('\n')[0] ?? ''
    }
  }
  return trouble === '' ? 'nvidia-smi failed.' : `nvidia-smi failed: ${trouble.slice(0, 200).replace(/\.$/, '')}.`
}

export async function nvidiaSource(adapterName: string, tool: NvidiaSmi): Promise<EnergyChoice> {
  const gpus = await probe(tool)
  if (typeof gpus === 'string') return { reason: gpus }
  const gpu = matchGpu(gpus, adapterName)
  if (typeof gpu === 'string') return { reason: gpu }
  if (gpu.isPartitioned) return { reason: `${gpu.name} is partitioned (MIG): its power is that of all its partitions together.` }
  const field = POWER_FIELDS.find((candidate) => parseWatts(gpu.power[candidate]) !== null)
  if (field === undefined) {
    const [said] = Object.values(gpu.power)
    return { reason: `nvidia-smi shows no power of ${gpu.name}${said === undefined || said === '' ? '' : `: ${said.slice(0, 60)}`}.` }
  }
  return boardSource(tool, gpu, field)
}

function boardSource(tool: NvidiaSmi, gpu: NvidiaGpu, field: string): EnergySource {
  return {
    scope: 'gpu-board',
    counter: `nvidia-smi ${field}`,
    method: 'power',
    intervalMs: INTERVAL_MS,
    async record() {
      const recording = new SmiRecording(tool, gpu.busId, field)
      await recording.started
      return recording
    },
  }
}

class SmiRecording implements EnergyRecording {
  readonly #child: ChildProcessByStdio<null, Readable, null>
  readonly #trace = new EnergyTrace('power')
  /** Least of arrival − own time: what turns the tool's clock into ours, however late its lines come through the pipe. */
  #offsetMs = Infinity
  #missing = 0
  #closed = false
  /** Why there are no more readings; those before it are as good as ever. */
  #ended: string | null = null
  readonly #exit: Promise<void>
  /** Settled by the next reading, or by the end of the process. */
  #next = Promise.withResolvers<void>()
  readonly #killAtExit = (): void => void this.#child.kill('SIGKILL')
  readonly started: Promise<void>

  constructor(tool: NvidiaSmi, busId: string, field: string) {
    const query = [`--id=${busId}`, `--query-gpu=timestamp,${field}`, '--format=csv,noheader,nounits', `--loop-ms=${INTERVAL_MS}`]
    this.#child = spawn(tool.command, [...tool.leading, ...query], { stdio: ['ignore', 'pipe', 'ignore'], windowsHide: true })
    process.once('exit', this.#killAtExit)
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#exit = promise
    this.#child.once('exit', () => resolve())
    this.#child.once('error', () => resolve())
    const end = (reason: string): void => {
      process.removeListener('exit', this.#killAtExit)
      this.#ended ??= reason
      this.#wake()
    }
    this.#child.once('error', (error) => end(`nvidia-smi could not be run: ${error.message}.`))
    this.#child.once('close', (code, signal) => end(`nvidia-smi ended during the run (${signal ?? `exit code ${code}`}).`))
    createInterface({ input: this.#child.stdout, crlfDelay: Infinity }).on('line', (line) => this.#line(line))
    this.started = this.#wait(() => this.#trace.lastMs > -Infinity || this.#missing >= MOST_MISSING, START_MS)
  }

  #line(line: string): void {
    if (line.trim() === '') return
    const reading = parsePowerLine(line)
    if (reading === null) return this.#trace.fail(`nvidia-smi wrote "${line.slice(0, 100)}" instead of a power.`)
    if (reading.watts === null) {
      // One reading may fail; a sensor that is gone leaves a gap, which the trace refuses.
      this.#missing++
      return this.#wake()
    }
    this.#offsetMs = Math.min(this.#offsetMs, performance.now() - reading.atMs)
    this.#trace.add(reading.atMs, reading.watts)
    this.#wake()
  }

  #wake(): void {
    this.#next.resolve()
    this.#next = Promise.withResolvers<void>()
  }

  /** Until it holds, the process is gone, or the time is over. */
  async #wait(holds: () => boolean, ms: number): Promise<void> {
    const { promise: late, resolve } = Promise.withResolvers<'late'>()
    const timer = setTimeout(() => resolve('late'), ms)
    try {
      while (!holds() && this.#trace.trouble === null && this.#ended === null)
        if ((await Promise.race([this.#next.promise, late])) === 'late') return
    } finally {
      clearTimeout(timer)
    }
  }

  async between(fromMs: number, toMs: number): Promise<EnergyWindow> {
    if (this.#closed) return notMeasured('The readings had ended.')
    const covers = (): boolean => this.#trace.lastMs + this.#offsetMs >= toMs
    await this.#wait(covers, SETTLE_MS)
    if (this.#ended !== null && !covers()) return notMeasured(this.#ended)
    if (this.#trace.lastMs === -Infinity && this.#trace.trouble === null)
      return notMeasured(this.#missing > 0 ? 'nvidia-smi gave no number for the power.' : 'nvidia-smi gave no reading in time.')
    return this.#trace.between(fromMs - this.#offsetMs, toMs - this.#offsetMs)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    this.#child.kill('SIGTERM')
    const { promise: stuck, resolve } = Promise.withResolvers<void>()
    const timers = [
      setTimeout(() => this.#child.kill('SIGKILL'), KILL_MS),
      // One that waits in the driver does not even hear that; it dies when it comes back.
      setTimeout(resolve, 2 * KILL_MS),
    ]
    await Promise.race([this.#exit, stuck])
    for (const timer of timers) clearTimeout(timer)
    // Where nvidia-smi is a script around the real one, that one finds its pipe closed.
    this.#child.stdout.destroy()
  }
}
