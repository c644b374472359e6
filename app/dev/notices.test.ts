import { describe, expect, it } from 'vitest'
import { closure, readLockfile, resolvePackage, type Lockfile } from './build/lockfile.ts'
import { noticesTable, shippedPackages } from './notices.ts'

const lockfile: Lockfile = {
  '': { version: '1.0.0', dependencies: { a: '^1.0.0' }, optionalDependencies: { 'node-x': '24.0.0' } },
  'node_modules/a': { version: '1.0.0', license: 'MIT', dependencies: { b: '^2.0.0', c: '*' }, peerDependencies: { absent: '*' } },
  'node_modules/a/node_modules/b': { version: '2.0.0', license: 'ISC', dependencies: { c: '*' } },
  'node_modules/b': { version: '1.0.0', license: 'MIT', dev: true },
  'node_modules/c': { version: '3.0.0', license: 'OFL-1.1' },
  'node_modules/electron': { version: '45.0.0', license: 'MIT', dev: true, dependencies: { b: '^1.0.0' } },
  'node_modules/node-x': { version: '24.0.0', license: 'MIT', optional: true },
  'node_modules/tool': { version: '9.0.0', dev: true },
}

describe('the lockfile', () => {
  it('resolves a name from the inside out, as Node does', () => {
    expect(resolvePackage(lockfile, 'b', 'node_modules/a')).toBe('node_modules/a/node_modules/b')
    expect(resolvePackage(lockfile, 'c', 'node_modules/a/node_modules/b')).toBe('node_modules/c')
    expect(resolvePackage(lockfile, 'b', '')).toBe('node_modules/b')
    expect(resolvePackage(lockfile, 'absent', 'node_modules/a')).toBeNull()
  })

  it('holds the bindings of every platform: with one missing, `npm ci` refuses the lockfile everywhere', () => {
    const real = readLockfile()
    const missing = Object.entries(real).flatMap(([folder, { optionalDependencies = {} }]) =>
      Object.keys(optionalDependencies).filter((name) => resolvePackage(real, name, folder) === null),
    )
    // Cure: delete node_modules and package-lock.json together, then `npm install --package-lock-only`.
    expect(missing).toEqual([])
  })

  it('finds everything that a package needs, each once', () => {
    expect(closure(lockfile, ['a'])).toEqual(['node_modules/a', 'node_modules/a/node_modules/b', 'node_modules/c'])
  })
})

describe('notices', () => {
  it('list what is shipped, and Electron without what only its download needs', () => {
    expect(noticesTable(shippedPackages(lockfile)).split('\n').slice(2)).toEqual([
      '| a | 1.0.0 | MIT |',
      '| b | 2.0.0 | ISC |',
      '| c | 3.0.0 | OFL-1.1 |',
      '| electron | 45.0.0 | MIT |',
      '| node-x | 24.0.0 | MIT |',
    ])
  })

  it('refuse a package without a licence', () => {
    const unlicensed = { ...lockfile, 'node_modules/c': { version: '3.0.0' } }
    expect(() => shippedPackages(unlicensed)).toThrow('c@3.0.0 names no licence')
  })

  it('holds for the real lockfile: only licences that allow shipping', () => {
    const permissive =
      /^\(?(MIT|ISC|Apache-2\.0|BSD-[23]-Clause|0BSD|OFL-1\.1|CC0-1\.0|Unlicense|BlueOak-1\.0\.0|MIT-0|Python-2\.0)( (OR|AND) .*)?\)?$/
    expect(shippedPackages(readLockfile()).filter(({ license }) => !permissive.test(license))).toEqual([])
  })
})
