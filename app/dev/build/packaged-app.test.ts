/**
 * Packs the application with electron-builder itself, around a stand-in for the Electron binary (which cannot be had on every build machine), and
 * runs the packed engine under the packed Node from elsewhere. What is left unproven is what Electron does with main.mjs.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { createORPCClient } from '@orpc/client'
import { RPCLink } from '@orpc/client/websocket'
import type { ContractRouterClient } from '@orpc/contract'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import type { Contract } from '../../../engine/contract/index.ts'
import type { EngineReady } from '../../../engine/contract/transport.ts'
import { ROOT, runNode, toolPath } from '../tools.ts'
import { buildEngine, shipNode } from './engine.ts'
import { buildShell } from './shell.ts'

const { listPackage } = createRequire(import.meta.url)('@electron/asar') as { listPackage: (path: string, options: object) => string[] }

let project: string
let resources: string

describe.runIf(process.platform === 'linux')('the packed application', () => {
  beforeAll(async () => {
    project = mkdtempSync(join(tmpdir(), 'lathe-packed-'))
    const dist = join(project, 'dist')
    await buildEngine(dist)
    await buildShell(join(dist, 'app'))
    shipNode(dist)
    mkdirSync(join(dist, 'renderer'))
    writeFileSync(join(dist, 'renderer', 'index.html'), '<!doctype html><title>Lathe</title>')
    for (const name of ['electron-builder.yml', 'LICENSE', 'THIRD-PARTY-NOTICES.md', 'assets/icons']) {
      cpSync(join(ROOT, name), join(project, name), { recursive: true })
    }
    // Without dependencies, which are packed nowhere: electron-builder would only look for them.
    const { dependencies: _inBundles, ...manifest } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Record<
      string,
      unknown
    >
    writeFileSync(join(project, 'package.json'), JSON.stringify(manifest))
    const arguments_ = ['--linux', 'dir', '--projectDir', project, '--publish', 'never', `-c.electronDist=${pretendElectron(project)}`]
    const code = await runNode(toolPath('electron-builder'), arguments_, { cwd: project })
    if (code !== 0) throw new Error(`electron-builder ended with code ${code}`)
    const unpacked = readdirSync(join(project, 'release')).find((name) => name.endsWith('unpacked'))
    resources = join(project, 'release', unpacked ?? '', 'resources')
  }, 180_000)
  afterAll(() => rmSync(project, { recursive: true, force: true }))

  it('holds the window in the asar and everything that Node runs beside it', () => {
    expect(listPackage(join(resources, 'app.asar'), {}).toSorted()).toEqual([
      '/dist',
      '/dist/app',
      '/dist/app/main.mjs',
      '/dist/app/preload.cjs',
      '/package.json',
    ])
    expect(readdirSync(resources).toSorted()).toEqual([
      'LICENSE.txt',
      'THIRD-PARTY-NOTICES.md',
      'app.asar',
      'assets',
      'engine',
      'node',
      'package.json',
      'renderer',
    ])
    expect(statSync(join(resources, 'node', 'node')).mode & 0o111).not.toBe(0)
  })

  it('leaves out tests, types and the binaries of other platforms', () => {
    const files = readdirSync(join(resources, 'engine'), { recursive: true, encoding: 'utf8' })
    expect(files.filter((name) => /\.ts$|\.test\.|\.map$/.test(name))).toEqual([])
    expect(readdirSync(join(resources, 'engine/node_modules/webgpu/dist'))).toEqual([`${process.platform}-${process.arch}`])
    const sources = files.filter((name) => name.endsWith('.js') && !name.includes('node_modules'))
    const unwritten = sources.filter((name) => /['"]\.{1,2}\/[^'"]*\.ts['"]/.test(readFileSync(join(resources, 'engine', name), 'utf8')))
    expect(unwritten).toEqual([])
  })

  it('has an engine that serves its page and reads the sample model', async () => {
    const engine = spawn(join(resources, 'node', 'node'), [join(resources, 'engine', 'main.js'), '--data', join(project, 'data')], {
      cwd: tmpdir(),
      env: { PATH: '', HOME: project, CI: 'true' },
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    try {
      const [line] = (await once(createInterface({ input: engine.stdout }), 'line')) as [string]
      const { origin, token = '' } = JSON.parse(line) as EngineReady
      expect(await (await fetch(origin, { headers: { Accept: 'text/html' } })).text()).toContain('<title>Lathe</title>')
      const headers = { Origin: origin, Authorization: `Bearer ${token}` }
      const socket = new WebSocket(`${origin.replace('http', 'ws')}/rpc`, { headers })
      await once(socket, 'open')
      const link = new RPCLink({ websocket: socket as unknown as globalThis.WebSocket })
      const client = createORPCClient<ContractRouterClient<Contract>>(link)
      const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }
      expect(await client.system.info()).toMatchObject({ version, shell: 'headless', dataFolder: join(project, 'data') })
      expect(await client.models.importSample()).toMatchObject({ status: 'ready', isSample: true, hasTokenizer: true })
      socket.terminate()
    } finally {
      engine.stdin.end()
      await ended(engine)
    }
    expect(engine.exitCode).toBe(0)
  })
})

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
}

/** A folder that electron-builder takes for an unpacked Electron: all it looks for is the fuse wire inside the program. */
function pretendElectron(parent: string): string {
  const folder = join(parent, 'electron')
  mkdirSync(join(folder, 'resources'), { recursive: true })
  // Sentinel, version and length of the wire, then one "0" or "1" per fuse (github.com/electron/fuses).
  const wire = Buffer.concat([Buffer.from('dL7pKGdnNz796PbbjQWNKmHXBZaB9tsX'), Buffer.from([1, 8]), Buffer.from('10101010')])
  writeFileSync(join(folder, 'electron'), Buffer.concat([Buffer.alloc(64), wire, Buffer.alloc(64)]), { mode: 0o755 })
  const { devDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { devDependencies: Record<string, string> }
  writeFileSync(join(folder, 'version'), devDependencies['electron'] ?? '')
  for (const name of ['LICENSE', 'LICENSES.chromium.html', 'chrome-sandbox']) writeFileSync(join(folder, name), '')
  return folder
}
