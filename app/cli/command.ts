/** What a command is: its words for the help, its options, and a function from arguments to a result in two forms. */
import type { EnginePorts } from '../../engine/studio/ports.ts'
import type { Arguments, OptionSpec } from './arguments.ts'

export interface CommandOutput {
  /** The fields of DESIGN §10, in snake_case. */
  readonly json: Readonly<Record<string, unknown>>
  /** The same for people. */
  readonly text: string
}

export interface CommandContext {
  readonly signal: AbortSignal
  readonly json: boolean
  /** The engine on the wanted adapter; opened on first use and closed by the caller. */
  readonly engine: () => Promise<EnginePorts>
  /** One line about work in progress, on stderr; null clears it. */
  readonly progress: (line: string | null) => void
  /** A remark that stays, on stderr. */
  readonly note: (line: string) => void
  /** Text for stdout at once, before the result: a streamed answer. Nothing with --json. */
  readonly stream: (text: string) => void
  /** One JSON object on stdout at once, with and without --json: for commands that go on running. */
  readonly announce: (value: Readonly<Record<string, unknown>>) => void
  readonly stdin: NodeJS.ReadStream
}

export interface Command {
  readonly usage: string
  readonly summary: string
  readonly options: Readonly<Record<string, OptionSpec>>
  /** null when everything has been said already. */
  run(args: Arguments, context: CommandContext): Promise<CommandOutput | null>
}
