import { describe, expect, it } from 'vitest'
import { defaultDataFolder, rootPolicy, type ProcessFacts } from './process-policy.ts'

const facts: ProcessFacts = { platform: 'linux', env: {}, homeFolder: '/home/ada', userId: 1000 }

function decide(userId: number | null, env: ProcessFacts['env'] = {}): string {
  return rootPolicy({ ...facts, userId, env })
}

function folder(over: Partial<ProcessFacts>): string {
  return defaultDataFolder({ ...facts, ...over })
}

describe('running as root', () => {
  it('is refused behind sudo, warned about elsewhere, and fine where someone decided so', () => {
    expect(decide(1000)).toBe('fine')
    expect(decide(null)).toBe('fine')
    expect(decide(0)).toBe('warn')
    expect(decide(0, { SUDO_UID: '1000' })).toBe('refuse')
    expect(decide(0, { SUDO_UID: '0' })).toBe('warn')
    expect(decide(0, { SUDO_UID: '1000', LATHE_ALLOW_ROOT: '1' })).toBe('fine')
    expect(decide(0, { CI: 'true' })).toBe('fine')
    expect(decide(0, { CI: 'false' })).toBe('warn')
  })
})

describe('the data folder', () => {
  it('is where each platform keeps application data, unless the user says otherwise', () => {
    expect(folder({})).toBe('/home/ada/.local/share/lathe')
    expect(folder({ env: { XDG_DATA_HOME: '/data' } })).toBe('/data/lathe')
    expect(folder({ platform: 'darwin' })).toBe('/home/ada/Library/Application Support/Lathe')
    expect(folder({ platform: 'win32', env: { APPDATA: '/roaming' } })).toBe('/roaming/Lathe')
    expect(folder({ env: { LATHE_DATA: '/elsewhere', XDG_DATA_HOME: '/data' } })).toBe('/elsewhere')
  })
})
