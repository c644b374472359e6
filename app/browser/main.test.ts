/** `npm start -- --headless` as a person runs it: a terminal, an address, a crash in between, Ctrl-C. */
import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ROOT } from '../dev/tools.ts'

type Terminal = ChildProcessByStdio<null, Readable, Readable>

let data: string
let terminals: Terminal[]
let shown: string
let changed: () => void

beforeEach(() => {
  data = mkdtempSync(join(tmpdir(), 'lathe-start-'))
  terminals = []
  shown = ''
  changed = () => {}
})
afterEach(async () => {
  for (const terminal of terminals) {
    if (terminal.exitCode !== null || terminal.signalCode !== null) continue
    terminal.kill('SIGKILL')
    await once(terminal, 'close')
  }
  rmSync(data, { recursive: true, force: true })
})

function start(args: readonly string[]): Terminal {
  const env = { ...process.env, CI: 'true', DISPLAY: '', WAYLAND_DISPLAY: '' }
  const child = spawn(process.execPath, [join(ROOT, 'app/browser/main.ts'), '--data', data, ...args], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      shown += chunk.toString()
      changed()
    })
  }
  terminals.push(child)
  return child
}

/** Resolves with the match as soon as the terminal shows it. */
function seen(pattern: RegExp): Promise<RegExpExecArray> {
  return new Promise((resolve) => {
    changed = () => {
      const match = pattern.exec(shown)
      if (match) resolve(match)
    }
    changed()
  })
}

async function enginePid(origin: string, token: string): Promise<number> {
  const response = await fetch(`${origin}/status`, { headers: { Authorization: `Bearer ${token}` } })
  return ((await response.json()) as { pid: number }).pid
}

describe('npm start', { timeout: 120_000 }, () => {
  it('prints the address, brings a killed engine back to it, and ends cleanly on Ctrl-C', async () => {
    const child = start(['--headless'])
    const [, origin = '', token = ''] = await seen(/Lathe is at (http:\/\/127\.0\.0\.1:\d+)\/#t=([\w-]{43})\n/)
    expect(await (await fetch(origin, { headers: { Accept: 'text/html' } })).text()).toContain('<title>Lathe</title>')
    const first = await enginePid(origin, token)
    process.kill(first, 'SIGKILL')
    await seen(/the engine stopped unexpectedly .* starting it again in 0\.5 s/)
    await seen(new RegExp(`the engine is back at ${origin}/#t=${token}`))
    const second = await enginePid(origin, token)
    expect(second).not.toBe(first)
    child.kill('SIGINT')
    await once(child, 'close')
    expect(child.exitCode).toBe(0)
    await expect(fetch(origin)).rejects.toThrow('fetch failed')
  })

  it('says in one line why there is no window, and serves all the same', async () => {
    const child = start([])
    await seen(/no desktop window: there is no screen .*; opening the studio in the browser instead\n/)
    await seen(/Lathe is at http/)
    await seen(/open this address in a browser on this machine/)
    child.kill('SIGTERM')
    await once(child, 'close')
    expect(child.exitCode).toBe(0)
  })

  it('reports an engine that refuses to start, and ends', async () => {
    const first = start(['--headless'])
    await seen(/Ctrl-C ends it\n/)
    shown = ''
    const second = start(['--headless'])
    await once(second, 'close')
    expect(second.exitCode).toBe(1)
    expect(shown).toMatch(/^lathe: Another Lathe is using the data folder .*\nlathe: .+\n$/)
    first.kill('SIGTERM')
    await once(first, 'close')
  })

  it.each([
    [['--lan'], /--lan/],
    [['--browser', '--headless'], /Choose one of --browser and --headless/],
    [['--desktop'], /No desktop window: there is no screen/],
  ])('refuses %j in one line', async (args, message) => {
    const child = start(args)
    await once(child, 'close')
    expect(child.exitCode).toBe(1)
    expect(shown).toMatch(message)
    expect(shown.trim().split('\n')).toHaveLength(1)
  })
})
