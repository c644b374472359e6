/**
 * Everything a bug report needs as plain text: versions, hardware, settings, recent jobs and log lines. Names of people are not its business:
 * the home folder is redacted wherever it appears, and no prompt, answer or file content is ever included.
 */
import type { Hardware, Job, ModelSummary, Settings } from '../contract/index.ts'
import type { Log } from './ports.ts'

export interface DiagnosticsInput {
  readonly version: string
  readonly shell: string
  readonly dataFolder: string
  readonly homeFolder: string
  readonly hardware: Hardware
  readonly settings: Settings
  readonly models: readonly ModelSummary[]
  readonly jobs: readonly Job[]
  readonly logTail: readonly string[]
  readonly at: Date
}

/** Enough for the story of one failure; a report is pasted by hand. */
const LOG_LINES = 200
const RECENT_JOBS = 20

/** Keeps the newest lines of the log for diagnostics while passing everything on. */
export class LogTail {
  readonly #lines: string[] = []
  readonly log: Log

  constructor(forward: Log) {
    this.log = (level, text) => {
      this.#lines.push(`${new Date().toISOString()} ${level}: ${text}`)
      if (this.#lines.length > LOG_LINES) this.#lines.shift()
      forward(level, text)
    }
  }

  get lines(): readonly string[] {
    return this.#lines
  }
}

export function renderDiagnostics(input: DiagnosticsInput): string {
  const { hardware } = input
  const lines = [
    `Lathe ${input.version}, ${input.shell}, ${input.at.toISOString()}`,
    `Node ${hardware.host.nodeVersion}, ${hardware.host.platform}, ${hardware.host.cpu} × ${hardware.host.cores}`,
    `Memory ${mebibytes(hardware.host.freeMemoryBytes)} free of ${mebibytes(hardware.host.totalMemoryBytes)}, engine ${mebibytes(hardware.host.engineRssBytes)}`,
    `Data folder ${input.dataFolder}`,
    '',
    'Adapters',
    ...hardware.adapters.map(
      (adapter) =>
        `${adapter.selected ? '*' : ' '} ${adapter.id}: ${adapter.name}, ${adapter.type}, ${adapter.backend}, driver ${adapter.driver}${adapter.usable ? '' : `, unusable: ${adapter.reason ?? 'unknown'}`}`,
    ),
    ...hardware.advice.map((advice) => `! ${advice.what}: ${advice.why} Fix: ${advice.fix}`),
    `GPU memory in use ${mebibytes(hardware.gpuBytesInUse)}${hardware.gpuBudgetBytes === null ? '' : ` of ${mebibytes(hardware.gpuBudgetBytes)}`}`,
    ...hardware.ledger.map((entry) => `  ${entry.owner}: ${mebibytes(entry.bytes)} in ${entry.buffers} buffers`),
    '',
    `Settings ${JSON.stringify(input.settings)}`,
    '',
    'Models',
    ...input.models.map(
      (model) =>
        `  ${model.name} [${model.status}] ${model.architecture.family} ${model.scheme}, ${model.weightBytes} bytes, ${model.path}`,
    ),
    '',
    'Recent jobs',
    ...input.jobs.slice(-RECENT_JOBS).map((job) => {
      const phases = job.phases.map((phase) => `${phase.id} ${phase.state}`).join(', ')
      const error = job.error === null ? '' : `; ${job.error.code}: ${job.error.message}`
      return `  ${job.title} [${job.state}] ${phases}${error}`
    }),
    '',
    'Log',
    ...input.logTail,
  ]
  return redactHome(lines.join('\n'), input.homeFolder)
}

/** Replaces the home folder by ~ in both slash directions, whatever case the platform's paths have. */
export function redactHome(text: string, homeFolder: string): string {
  if (homeFolder.length < 2) return text
  const forms = new Set([
    homeFolder,
    homeFolder.replaceAll('\\', '/'),
    homeFolder.replaceAll('/', '\\'),
    homeFolder.replaceAll('\\', '\\\\'),
  ])
  let redacted = text
  for (const form of forms) redacted = redacted.replaceAll(new RegExp(`${escapeForRegExp(form)}(?![\\w-])`, 'gi'), '~')
  return redacted
}

function escapeForRegExp(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`)
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`
}
