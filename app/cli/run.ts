/**
 * One run of the command line: find the command, read its arguments, run it, print its result in the wanted form. Exit code 0, or 1 with
 * `{error:{code,message,hint}}` (DESIGN §10). The engine is opened only by commands that use it, and always closed.
 */
import { toErrorShape } from '../../engine/contract/index.ts'
import { LatheError } from '../../engine/contract/index.ts'
import { nearestName } from '../../engine/compress/nearest-name.ts'
import { bindEngine } from '../../engine/studio/bind-engine.ts'
import type { EnginePorts } from '../../engine/studio/ports.ts'
import { Arguments, COMMON_OPTIONS } from './arguments.ts'
import type { OptionSpec } from './arguments.ts'
import { latheVersion } from './assets.ts'
import type { Command } from './command.ts'
import { bench } from './commands/bench.ts'
import { cache } from './commands/cache.ts'
import { chat } from './commands/chat.ts'
import { compress } from './commands/compress.ts'
import { doctor } from './commands/doctor.ts'
import { evaluate } from './commands/evaluate.ts'
import { inspect } from './commands/inspect.ts'
import { logits } from './commands/logits.ts'
import { plan } from './commands/plan.ts'
import { serve } from './commands/serve.ts'
import { formatTable } from './format.ts'
import type { Terminal } from './terminal.ts'

export const COMMANDS: Readonly<Record<string, Command>> = {
  inspect,
  compress,
  eval: evaluate,
  bench,
  serve,
  chat,
  logits,
  cache,
  plan,
  doctor,
}

/** Returns the exit code. Everything it prints goes through `terminal`. */
export async function runCommandLine(args: readonly string[], terminal: Terminal, signal: AbortSignal): Promise<0 | 1> {
  const json = args.includes('--json')
  let engine: EnginePorts | null = null
  try {
    const [name = 'help', ...rest] = args
    if (name === 'help' || name === '--help' || name === '-h') {
      terminal.out(`${helpFor(rest[0] ?? null)}\n`)
      return 0
    }
    if (name === '--version' || name === 'version') {
      terminal.out(`${latheVersion()}\n`)
      return 0
    }
    const command = findCommand(name)
    const parsed = new Arguments(rest, command.options, command.usage)
    if (parsed.flag('help')) {
      terminal.out(`${helpFor(name)}\n`)
      return 0
    }
    const output = await command.run(parsed, {
      signal,
      json,
      stdin: process.stdin,
      engine: async () => {
        engine ??= bindEngine({
          adapterId: parsed.text('adapter'),
          log: (level, text) => terminal.note(`${level}: ${text}`),
          onModelsChanged: () => {},
        })
        return engine
      },
      progress: (line) => terminal.progress(line),
      note: (line) => terminal.note(line),
      stream: (text) => {
        if (!json) terminal.out(text)
      },
      announce: (value) => terminal.out(`${JSON.stringify(value)}\n`),
    })
    terminal.progress(null)
    if (output === null) return 0
    if (json) terminal.out(`${JSON.stringify(output.json)}\n`)
    else if (output.text !== '') terminal.out(`${output.text}\n`)
    return 0
  } catch (error) {
    terminal.progress(null)
    const { code, message, hint, data } = toErrorShape(signal.aborted ? cancelled(error) : error)
    if (json) terminal.out(`${JSON.stringify({ error: { code, message, hint, ...(data === undefined ? {} : { data }) } })}\n`)
    terminal.note(`${code}: ${message}`)
    terminal.note(hint)
    if (code === 'internal' && error instanceof Error && error.stack !== undefined) terminal.note(error.stack)
    return 1
  } finally {
    await (engine as EnginePorts | null)?.close()
  }
}

/** Ctrl-C is not a defect, however the part that was interrupted puts it; what it says about resuming is kept. */
function cancelled(error: unknown): LatheError {
  if (error instanceof LatheError && error.code === 'job.cancelled') return error
  return new LatheError('job.cancelled', 'Stopped.', 'Run the same command again when you like.', { cause: error })
}

function findCommand(name: string): Command {
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
  if (command !== undefined) return command
  const nearest = nearestName(name, Object.keys(COMMANDS))
  throw new LatheError(
    'request.invalid',
    `There is no command "${name}".`,
    nearest === null ? `The commands are ${Object.keys(COMMANDS).join(', ')}.` : `Did you mean "${nearest}"?`,
  )
}

function helpFor(name: string | null): string {
  if (name !== null) {
    const command = findCommand(name)
    const options = [...Object.entries<OptionSpec>(command.options), ...Object.entries<OptionSpec>(COMMON_OPTIONS)]
    return `${command.usage}\n\n${command.summary}\n\n${formatTable(options.map(describeOption))}`
  }
  const rows = Object.entries(COMMANDS).map(([command, { summary }]) => [`  ${command}`, summary])
  return `Lathe ${latheVersion()}: make local language models smaller, and prove it.\n\n${formatTable(rows)}\n\n\`lathe help <command>\` shows a command’s options. Every command takes --json and --adapter.`
}

function describeOption([option, spec]: readonly [string, OptionSpec]): string[] {
  return [`  --${option}${spec.value === undefined ? '' : ` ${spec.value}`}`, spec.help]
}
