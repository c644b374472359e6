/** electron-builder.yml against electron-builder's own schema, for every platform, and against the files that it names. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { ROOT } from '../tools.ts'

interface ConfigModule {
  readonly getConfig: (projectFolder: string, configPath: string | null, fromOptions: null) => Promise<Config>
  readonly validateConfiguration: (config: Config, log: unknown) => Promise<void>
}
interface PlatformConfig {
  readonly target: readonly string[]
  readonly icon: string
  readonly entitlements?: string
  readonly entitlementsInherit?: string
}
interface Config {
  readonly files: readonly string[]
  readonly extraResources: readonly { readonly from: string; readonly to: string; readonly filter?: readonly string[] }[]
  readonly directories: { readonly buildResources: string; readonly output: string }
  readonly linux: PlatformConfig
  readonly mac: PlatformConfig
  readonly win: PlatformConfig
  readonly electronFuses: Readonly<Record<string, boolean>>
}

// Not part of the package's public API, but where its own command line validates; pinned with the package.
const require = createRequire(import.meta.url)
const { getConfig, validateConfiguration } = require('app-builder-lib/out/util/config/config.js') as ConfigModule
const { DebugLogger } = require('builder-util') as { DebugLogger: new (enabled: boolean) => unknown }

const path = join(ROOT, 'electron-builder.yml')
let folder: string
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'lathe-packaging-'))))
afterEach(() => rmSync(folder, { recursive: true, force: true }))

/** Resolves when the schema accepts the text as a configuration. */
async function validate(text: string): Promise<void> {
  const file = join(folder, 'electron-builder.yml')
  writeFileSync(file, text)
  const config = await getConfig(ROOT, file, null)
  await validateConfiguration(config, new DebugLogger(false))
}

describe('electron-builder.yml', () => {
  const text = readFileSync(path, 'utf8')
  const config = parse(text) as Config

  it('is accepted by the schema of electron-builder, with targets for Linux, macOS and Windows', async () => {
    await expect(validate(text)).resolves.toBeUndefined()
    expect([config.linux.target, config.mac.target, config.win.target]).toEqual([
      ['AppImage', 'tar.gz'],
      ['dmg', 'zip'],
      ['nsis', 'zip'],
    ])
  })

  it.each([
    ['an unknown fuse', 'runAsNode: false', 'runAsNodes: false', /electronFuses/],
    ['an unknown key', 'npmRebuild: false', 'npmRebuilds: false', /npmRebuilds/],
    ['a wrong type', 'asar: true', 'asar: 7', /asar/],
    ['a wrong target', 'target: [nsis, zip]', 'target: { nsis: true }', /win/],
    ['a wrong category', 'category: Development', 'category: [Development]', /linux/],
  ])('would be rejected with %s', async (_name, good, bad, message) => {
    expect(text).toContain(good)
    await expect(validate(text.replace(good, bad))).rejects.toThrow(message)
  })

  it('names only files that are there', () => {
    const { linux, mac, win, directories, extraResources } = config
    const named = [linux.icon, mac.icon, win.icon, mac.entitlements, mac.entitlementsInherit, directories.buildResources]
    const files = [...named, ...extraResources.map(({ from }) => from)].filter((name) => name !== undefined && name !== 'dist')
    expect(files.filter((name) => !existsSync(join(ROOT, String(name))))).toEqual([])
    expect(existsSync(join(ROOT, linux.icon, '512x512.png'))).toBe(true)
  })

  it('keeps engine, page and Node outside the asar, and the packages that Electron never loads out of it', () => {
    expect(config.files).toContain('!**/node_modules/**')
    const [dist] = config.extraResources.filter(({ from }) => from === 'dist')
    expect(dist?.filter).toEqual(['engine/**', 'renderer/**', 'assets/**', 'node/**', 'package.json'])
  })

  it('closes every door of Electron that the application does not use', () => {
    expect(config.electronFuses).toEqual({
      runAsNode: false,
      enableNodeOptionsEnvironmentVariable: false,
      enableNodeCliInspectArguments: false,
      enableCookieEncryption: true,
      enableEmbeddedAsarIntegrityValidation: true,
      onlyLoadAppFromAsar: true,
      grantFileProtocolExtraPrivileges: false,
    })
  })
})
