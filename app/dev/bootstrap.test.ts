/** The bootstrap as npm runs it, in a checkout that is complete or broken. Nothing is installed here: that is in bootstrap/*.test.ts with a pretend machine. */
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { dependenciesAreCurrent, expectedStamp } from './bootstrap/dependencies.mjs'
import { currentContext } from './bootstrap/node-runtime.mjs'
import { ROOT } from './tools.ts'

let checkout: string

/** A checkout whose packages are installed and whose command line prints what it was given. */
beforeEach(() => {
  checkout = mkdtempSync(join(tmpdir(), 'lathe-checkout-'))
  cpSync(join(ROOT, 'app/dev/bootstrap.mjs'), join(checkout, 'app/dev/bootstrap.mjs'))
  cpSync(join(ROOT, 'app/dev/bootstrap'), join(checkout, 'app/dev/bootstrap'), { recursive: true })
  put('package.json', JSON.stringify({ type: 'module', optionalDependencies: {} }))
  put('package-lock.json', JSON.stringify({ packages: { '': {} } }))
  put(
    'app/cli/main.ts',
    'const args: string[] = process.argv.slice(2)\nconsole.log(JSON.stringify({ args, cwd: process.cwd() }))\nprocess.exitCode = Number(args[1] ?? 0)\n',
  )
  mkdirSync(join(checkout, 'node_modules'))
  const context = currentContext(checkout)
  put('node_modules/.lathe-lock', expectedStamp(context))
  put('node_modules/.lathe-system', 'gpu')
  if (!dependenciesAreCurrent(context)) throw new Error('the pretend checkout is not current')
})
afterEach(() => rmSync(checkout, { recursive: true, force: true }))

function put(name: string, text: string): void {
  mkdirSync(dirname(join(checkout, name)), { recursive: true })
  writeFileSync(join(checkout, name), text)
}

function bootstrap(
  args: readonly string[],
  env: Record<string, string> = {},
): { readonly status: number | null; readonly stdout: string; readonly stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(checkout, 'app/dev/bootstrap.mjs'), ...args], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    cwd: checkout,
  })
  return { status, stdout, stderr }
}

describe('the bootstrap', () => {
  it('hands over arguments, folder, output and exit code, and adds not one byte of its own', () => {
    const elsewhere = tmpdir()
    const { status, stdout, stderr } = bootstrap(['lathe', '--json', '3'], { INIT_CWD: elsewhere })
    expect({ status, stderr, ...JSON.parse(stdout) }).toEqual({ status: 3, stderr: '', args: ['--json', '3'], cwd: elsewhere })
  })

  it('explains an unknown command on stderr only', () => {
    const { status, stdout, stderr } = bootstrap(['fly'])
    expect([status, stdout]).toEqual([1, ''])
    expect(stderr).toMatch(/^lathe: There is no command "fly"\.\nlathe: Use one of: start, lathe, test, .*\n$/)
  })

  it('explains a command that this checkout does not have', () => {
    rmSync(join(checkout, 'app/cli'), { recursive: true })
    expect(bootstrap(['lathe', 'doctor'])).toMatchObject({
      status: 1,
      stdout: '',
      stderr: expect.stringContaining('app/cli/main.ts is not in this checkout'),
    })
  })

  it('shows in a dry run what it would install, and installs nothing', () => {
    put('package-lock.json', JSON.stringify({ packages: { '': {}, 'node_modules/new': { version: '1.0.0' } } }))
    const { stderr } = bootstrap(['lathe', 'x', '0'], { LATHE_DRY_RUN: '1', npm_execpath: '' })
    expect(stderr).toMatch(/lathe: would run: .*npm.* ci /)
    expect(dependenciesAreCurrent(currentContext(checkout))).toBe(false)
  })
})
