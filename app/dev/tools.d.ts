export declare const ROOT: string
/** Script behind a package's command, e.g. `toolPath('typescript', 'tsc')`. */
export declare function toolPath(packageName: string, command?: string): string
export interface ToolOptions {
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly cwd?: string
  /** Passes the tool's output through; otherwise it is kept and shown only when the tool fails. */
  readonly loud?: boolean
}
/** Runs a script under this Node to its end and resolves with the exit code. */
export declare function runNode(script: string, args: readonly string[], options?: ToolOptions): Promise<number>
