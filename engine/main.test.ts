/** The engine as the shells see it: a child process with one line on stdout. */
import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { EngineFailed, EngineReady } from './contract/index.ts'

type Child = ChildProcessByStdio<Writable, Readable, Readable>

const main = join(import.meta.dirname, 'main.ts')
const token = 'a'.repeat(43)
let data: string
let children: Child[]

beforeEach(() => {
  data = mkdtempSync(join(tmpdir(), 'lathe-engine-'))
  children = []
})
afterEach(async () => {
  for (const child of children) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  rmSync(data, { recursive: true, force: true })
})

function start(args: readonly string[] = [], env: Record<string, string | undefined> = {}): Child {
  const child = spawn(process.execPath, [main, '--data', data, ...args], {
    env: { ...process.env, CI: 'true', ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  children.push(child)
  return child
}

async function firstLine<T>(child: Child): Promise<T> {
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  return JSON.parse(line) as T
}

async function ended(child: Child): Promise<{ readonly code: number | null; readonly stderr: string }> {
  let stderr = ''
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  await once(child, 'close')
  return { code: child.exitCode, stderr }
}

describe('the engine process', () => {
  it('says where it is, answers there, and exits when stdin closes', async () => {
    const child = start()
    const ready = await firstLine<EngineReady>(child)
    expect(ready.origin).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
    expect(ready.token).toMatch(/^[\w-]{43}$/)
    expect(ready.cookie).toBe(`lathe-${new URL(ready.origin).port}`)
    const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '..', 'package.json'), 'utf8')) as { version: string }
    const response = await fetch(`${ready.origin}/status`, { headers: { Authorization: `Bearer ${ready.token}` } })
    expect(await response.json()).toEqual({ version, pid: child.pid, runningJobs: 0 })
    child.stdin.end()
    expect((await ended(child)).code).toBe(0)
  })

  it('takes the token and the port that the shell chose, and repeats neither secret', async () => {
    const first = start([], { LATHE_TOKEN: token })
    const ready = await firstLine<EngineReady>(first)
    expect(ready.token).toBeUndefined()
    const { port } = new URL(ready.origin)
    first.kill('SIGKILL')
    await once(first, 'close')
    const second = start(['--port', port], { LATHE_TOKEN: token })
    expect((await firstLine<EngineReady>(second)).origin).toBe(ready.origin)
    const response = await fetch(`${ready.origin}/status`, { headers: { Authorization: `Bearer ${token}` } })
    expect(response.status).toBe(200)
    second.kill('SIGTERM')
    expect((await ended(second)).code).toBe(0)
  })

  it('lets only one engine have a data folder', async () => {
    await firstLine<EngineReady>(start())
    const second = start()
    const failed = await firstLine<EngineFailed>(second)
    expect(failed.error.code).toBe('studio.in-use')
    expect((await ended(second)).code).toBe(1)
  })

  it.each([
    [['--port', '99999'], {}, 'request.invalid'],
    [['--host', '0.0.0.0'], {}, 'request.invalid'],
    [['--shell', 'pocket'], {}, 'request.invalid'],
    [[], { LATHE_TOKEN: 'weak' }, 'request.invalid'],
  ])('refuses to start with %j %j, in one line', async (args, env, code) => {
    const child = start(args, env)
    expect((await firstLine<EngineFailed>(child)).error.code).toBe(code)
    expect((await ended(child)).code).toBe(1)
  })

  it.runIf(process.getuid?.() === 0)('as root it is refused behind sudo and warned otherwise', async () => {
    const sudo = start([], { SUDO_UID: '1000', CI: undefined })
    expect((await firstLine<EngineFailed>(sudo)).error.code).toBe('host.refused-root')
    expect((await ended(sudo)).code).toBe(1)
    const plain = start([], { CI: undefined })
    const end = ended(plain)
    await firstLine<EngineReady>(plain)
    plain.stdin.end()
    expect((await end).stderr).toContain('running as root')
  })

  it.skipIf(process.platform === 'win32')('stops when its shell is killed although somebody else holds its stdin open', async () => {
    const script = `
      const { spawn } = require('node:child_process')
      const holder = spawn('sleep', ['600'], { stdio: ['ignore', 'pipe', 'ignore'] })
      const engine = spawn(process.execPath, [${JSON.stringify(main)}, '--data', ${JSON.stringify(data)}], { stdio: [holder.stdout, 'pipe', 'inherit'] })
      engine.stdout.once('data', () => console.log(holder.pid))`
    const shell = spawn(process.execPath, ['-e', script], { env: { ...process.env, CI: 'true' }, stdio: ['pipe', 'pipe', 'pipe'] })
    children.push(shell)
    const holder = await firstLine<number>(shell)
    let open = true
    // The engine inherits this stderr and nobody else does, so it closes when the engine is gone.
    const closed = once(shell.stderr.resume(), 'close').then(() => (open = false))
    shell.kill('SIGKILL')
    await once(shell, 'exit')
    expect(open).toBe(true)
    await closed
    expect(process.kill(holder, 'SIGKILL')).toBe(true)
  })
})
