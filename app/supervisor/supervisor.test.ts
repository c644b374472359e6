/** Against a pretend engine: a script that speaks the first line, obeys its stdin, and dies when its /die is fetched. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Supervisor, withoutNodeOptions, type EngineAddress, type SupervisorOptions } from './supervisor.ts'

const PRETEND_ENGINE = `
import { createServer } from 'node:http'
import { appendFileSync, existsSync, readFileSync } from 'node:fs'
const mode = process.env.MODE
const starts = process.env.STARTS
const nth = existsSync(starts) ? readFileSync(starts, 'utf8').split('\\n').length : 1
appendFileSync(starts, JSON.stringify([process.argv.slice(2), process.env.LATHE_TOKEN, process.env.NODE_OPTIONS ?? null]) + '\\n')
console.error('Warning: maxDynamicUniformBuffersPerPipelineLayout artificially reduced from 1000000 to 16 to fit dynamic offset allocation limit.')
console.error('engine warn: something for people')
const say = (line) => new Promise((resolve) => process.stdout.write(JSON.stringify(line) + '\\n', resolve))
if (mode === 'refuse') { await say({ error: { code: 'studio.in-use', message: 'Taken.', hint: 'Close it.' } }); process.exit(1) }
if (mode === 'mute') process.exit(3)
if (mode === 'babble') { console.log('hello'); setInterval(() => {}, 1000) }
if (mode === 'refuse-later' && nth > 1) process.exit(4)
if (mode !== 'babble') {
  const server = createServer((request, response) => {
    if (request.url === '/die') process.exit(7)
    response.end(JSON.stringify({ runningJobs: request.headers.authorization === 'Bearer ' + process.env.LATHE_TOKEN ? 2 : -1 }))
  })
  server.on('error', async () => { await say({ error: { code: 'host.port-in-use', message: 'Taken.', hint: '' } }); process.exit(1) })
  const port = Number(process.argv[process.argv.indexOf('--port') + 1])
  server.listen(port, '127.0.0.1', () => say({ origin: 'http://127.0.0.1:' + server.address().port, cookie: 'c' }))
  process.stdin.on('end', () => process.exit(0)).resume()
}
`

let folder: string
let supervisors: Supervisor[]
let messages: string[]

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lathe-supervisor-'))
  writeFileSync(join(folder, 'engine.mjs'), PRETEND_ENGINE)
  supervisors = []
  messages = []
})
afterEach(async () => {
  vi.useRealTimers()
  await Promise.all(supervisors.map((supervisor) => supervisor.stop()))
  rmSync(folder, { recursive: true, force: true })
})

function supervise(mode: string, options: Partial<SupervisorOptions> = {}): Supervisor {
  const supervisor = new Supervisor({
    command: [process.execPath, join(folder, 'engine.mjs')],
    env: { ...process.env, NODE_OPTIONS: '--title=injected', MODE: mode, STARTS: join(folder, 'starts') },
    onMessage: (line) => messages.push(line),
    ...options,
  })
  supervisors.push(supervisor)
  return supervisor
}

const starts = (): [string[], string, string | null][] =>
  readFileSync(join(folder, 'starts'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as [string[], string, string | null])

const die = (address: EngineAddress): Promise<unknown> => fetch(`${address.origin}/die`).catch(() => null)

describe('starting', () => {
  it('resolves with the address and a token of its own, and strips NODE_OPTIONS', async () => {
    const supervisor = supervise('well')
    const address = await supervisor.start()
    expect(address.origin).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
    expect(address.token).toMatch(/^[\w-]{43}$/)
    expect(starts()).toEqual([[['--port', '0'], address.token, null]])
    expect(await supervisor.runningJobs()).toBe(2)
  })

  it('passes on what the engine says, without the noise of its graphics library', async () => {
    const supervisor = supervise('well')
    await supervisor.start()
    await supervisor.stop()
    expect(messages).toEqual(['engine warn: something for people'])
  })

  it("throws the engine's own error", async () => {
    await expect(supervise('refuse').start()).rejects.toMatchObject({ code: 'studio.in-use', message: 'Taken.', hint: 'Close it.' })
  })

  it.each([
    ['mute', /ended before it was ready \(code 3\)/],
    ['babble', /something else than its address/],
  ])('reports an engine that is %s', async (mode, message) => {
    await expect(supervise(mode).start()).rejects.toThrow(message)
  })

  it('reports a program that is not there', async () => {
    await expect(supervise('well', { command: [join(folder, 'absent')] }).start()).rejects.toThrow(/could not be started/)
  })

  it('takes another port when the wanted one is gone', async () => {
    const squatter = createServer()
    const port = await new Promise<number>((resolve) =>
      squatter.listen(0, '127.0.0.1', () => resolve((squatter.address() as { port: number }).port)),
    )
    const address = await supervise('well', { port }).start()
    expect(new URL(address.origin).port).not.toBe(String(port))
    squatter.close()
  })
})

describe('a crash', () => {
  it('is reported and followed by a restart on the same port with the same token', async () => {
    const back = Promise.withResolvers<EngineAddress>()
    const crashes: unknown[] = []
    const supervisor = supervise('well', { onCrash: (crash) => crashes.push(crash), onRestart: back.resolve })
    const first = await supervisor.start()
    await die(first)
    expect(await back.promise).toEqual(first)
    expect(crashes).toEqual([{ code: 7, attempt: 1, pauseMs: 500 }])
    expect(await supervisor.runningJobs()).toBe(2)
  })

  it('is not restarted once the shell is stopping', async () => {
    const crashed = Promise.withResolvers<void>()
    const supervisor = supervise('well', { onCrash: () => crashed.resolve(), onRestart: () => expect.unreachable('restarted') })
    await die(await supervisor.start())
    await crashed.promise
    await supervisor.stop()
    expect(starts()).toHaveLength(1)
    expect(await supervisor.runningJobs()).toBe(0)
  })

  it('is retried with longer and longer pauses, then given up with the reason', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const gaveUp = Promise.withResolvers<Error>()
    const pauses: number[] = []
    const onCrash = ({ pauseMs }: { pauseMs: number }): void => {
      pauses.push(pauseMs)
      setImmediate(() => vi.advanceTimersByTime(pauseMs))
    }
    const supervisor = supervise('refuse-later', { onCrash, onGiveUp: gaveUp.resolve })
    await die(await supervisor.start())
    expect((await gaveUp.promise).message).toMatch(/ended before it was ready \(code 4\)/)
    expect(pauses).toEqual([500, 1000, 2000, 4000, 8000, 10_000])
  })
})

describe('stopping', () => {
  it('closes stdin, waits for the end, and can be repeated', async () => {
    const supervisor = supervise('well')
    const { origin } = await supervisor.start()
    await supervisor.stop()
    await supervisor.stop()
    await expect(fetch(origin)).rejects.toThrow(/fetch failed/)
  })
})

describe('the environment', () => {
  it('loses what would change how Node runs, in any case, and nothing else', () => {
    const env = { PATH: '/bin', NODE_OPTIONS: '-r x', Node_Options: '-r y', NODE_PATH: '/x', ELECTRON_RUN_AS_NODE: '1', HOME: '/h' }
    expect(withoutNodeOptions(env)).toEqual({ PATH: '/bin', HOME: '/h' })
  })
})
