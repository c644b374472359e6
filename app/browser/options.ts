/** The options of `npm start`, and what they mean together. */
import { parseArgs } from 'node:util'

export interface StartOptions {
  /** `auto`: the Electron window where it can be had, otherwise the browser. */
  readonly shell: 'auto' | 'desktop' | 'browser' | 'headless'
  /** 0 = any free one. */
  readonly port: number
  readonly data: string | null
  readonly adapter: string | null
}

export const USAGE = `npm start -- [options]
  --desktop        the Electron window or nothing (tries the download again)
  --browser        the browser, even where Electron could be had
  --headless       only print the address
  --port N         a fixed port of 127.0.0.1; any free one otherwise
  --data FOLDER    where the library lives
  --adapter ID     GPU to use, as \`npm run -s lathe -- doctor\` lists them`

/** Throws an Error with one line for options that make no sense. */
export function readStartOptions(args: readonly string[]): StartOptions | 'help' {
  const flag = { type: 'boolean' } as const
  const text = { type: 'string' } as const
  const { values } = parseArgs({
    args: [...args],
    options: { desktop: flag, browser: flag, headless: flag, help: flag, port: text, data: text, adapter: text },
  })
  if (values.help) return 'help'
  const shells = (['desktop', 'browser', 'headless'] as const).filter((name) => values[name])
  if (shells.length > 1) throw new Error(`Choose one of --${shells.join(' and --')}.`)
  const port = Number(values.port ?? 0)
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new Error(`${values.port} is not a port: use 1 to 65535.`)
  return { shell: shells[0] ?? 'auto', port, data: values.data ?? null, adapter: values.adapter ?? null }
}
