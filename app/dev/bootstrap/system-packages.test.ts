import { describe, expect, it } from 'vitest'
import { asShellLine, carryOut, parseOsRelease, planSystem, readAptSources, type Need, type SystemFacts } from './system-packages.mjs'
import { type RunOptions } from './process.mjs'

const tools = { playwright: ['node', 'playwright/cli.js'] }
const everything: readonly Need[] = ['software-gpu', 'browser']

/** A bare Debian 12 container as root: what CI starts from. */
const bare: SystemFacts = {
  platform: 'linux',
  root: true,
  distribution: 'debian',
  like: [],
  codename: 'bookworm',
  adapter: null,
  lavapipe: null,
  chromium: null,
  swiftShader: null,
  fonts: false,
  backports: { enabled: false, archive: { uri: 'http://mirror.example/debian', signedBy: '/usr/share/keyrings/archive.gpg' } },
}
const complete: SystemFacts = {
  ...bare,
  adapter: 'a GPU',
  lavapipe: 'llvmpipe',
  chromium: '/usr/bin/chromium',
  swiftShader: '/x/vk_swiftshader_icd.json',
  fonts: true,
}
const apt = ['apt-get', 'install', '-y', '--no-install-recommends']

describe('planning system packages', () => {
  it('does nothing where nothing is missing, and asks only for what the command needs', () => {
    expect(planSystem(complete, ['gpu', ...everything], tools)).toEqual({ missing: [], source: null, commands: [], needsRoot: false })
    expect(planSystem({ ...bare, adapter: 'a GPU' }, ['gpu'], tools).missing).toEqual([])
    expect(planSystem(bare, [], tools).missing).toEqual([])
  })

  it('brings Mesa from backports on Debian 12, adding the source from the archive the machine already uses', () => {
    expect(planSystem(bare, ['gpu'], tools)).toEqual({
      missing: ['a Vulkan driver that Dawn can use'],
      source: {
        path: '/etc/apt/sources.list.d/lathe-backports.sources',
        text: 'Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\nComponents: main\nSigned-By: /usr/share/keyrings/archive.gpg\n',
      },
      commands: [
        ['apt-get', 'update'],
        [...apt, '-t', 'bookworm-backports', 'libvulkan1', 'mesa-vulkan-drivers'],
      ],
      needsRoot: true,
    })
    const enabled = { ...bare, backports: { enabled: true, archive: bare.backports.archive } }
    expect(planSystem(enabled, ['gpu'], tools).source).toBeNull()
  })

  it('brings browser, fonts and drivers for the tests', () => {
    expect(planSystem(bare, everything, tools).commands).toEqual([
      ['apt-get', 'update'],
      [...apt, '-t', 'bookworm-backports', 'libvulkan1', 'mesa-vulkan-drivers'],
      [...apt, 'fonts-liberation', 'chromium'],
    ])
    expect(planSystem({ ...bare, codename: 'trixie' }, everything, tools).commands).toEqual([
      ['apt-get', 'update'],
      [...apt, 'libvulkan1', 'mesa-vulkan-drivers', 'fonts-liberation', 'chromium'],
    ])
  })

  it("takes Playwright's browser on Ubuntu, where apt has only a stub for a snap", () => {
    const ubuntu = { ...bare, distribution: 'ubuntu', like: ['debian'], codename: 'noble', lavapipe: 'llvmpipe', fonts: true }
    expect(planSystem(ubuntu, everything, tools)).toEqual({
      missing: ['Chromium'],
      source: null,
      commands: [['node', 'playwright/cli.js', 'install', '--with-deps', 'chromium']],
      needsRoot: true,
    })
  })

  it('knows Fedora and Arch by their families, and leaves other systems to their owner', () => {
    const fedora = { ...bare, distribution: 'nobara', like: ['fedora'], codename: '' }
    expect(planSystem(fedora, ['gpu'], tools).commands).toEqual([['dnf', 'install', '-y', 'vulkan-loader', 'mesa-vulkan-drivers']])
    const arch = { ...bare, distribution: 'arch', codename: '' }
    expect(planSystem(arch, ['gpu'], tools).commands).toEqual([
      ['pacman', '-S', '--needed', '--noconfirm', 'vulkan-icd-loader', 'vulkan-swrast'],
    ])
    const other = planSystem({ ...bare, distribution: 'void', codename: '' }, ['gpu'], tools)
    expect(other).toMatchObject({ missing: ['a Vulkan driver that Dawn can use'], commands: [], needsRoot: false })
  })

  it('needs no root on macOS and Windows', () => {
    for (const platform of ['darwin', 'win32'] as const) {
      const plan = planSystem({ ...bare, platform, distribution: '', codename: '', adapter: 'Apple M3' }, ['gpu', 'browser'], tools)
      expect(plan).toMatchObject({
        missing: ['Chromium'],
        commands: [['node', 'playwright/cli.js', 'install', 'chromium']],
        needsRoot: false,
      })
    }
  })

  it('turns the plan into one line that a person can paste', () => {
    const enabled = { ...bare, backports: { ...bare.backports, enabled: true } }
    expect(asShellLine(planSystem(enabled, ['gpu'], tools))).toBe(
      'sudo apt-get update && sudo apt-get install -y --no-install-recommends -t bookworm-backports libvulkan1 mesa-vulkan-drivers',
    )
    expect(asShellLine(planSystem(bare, ['gpu'], tools))).toMatch(
      /^printf 'Types: deb\\n.*' \| sudo tee \/etc\/apt.* && sudo apt-get update/,
    )
    expect(asShellLine(planSystem(complete, everything, tools))).toBeNull()
  })
})

describe('carrying the plan out', () => {
  const plan = planSystem(bare, everything, tools)

  it('writes the source, then runs the commands in order without questions', () => {
    const ran: { command: readonly string[]; options: RunOptions | undefined }[] = []
    const written: string[] = []
    const runner = {
      run(command: readonly string[], options?: RunOptions) {
        ran.push({ command, options })
        return { status: 0, stdout: '', stderr: '' }
      },
    }
    expect(carryOut(plan, { runner, env: { A: '1' }, dryRun: false, write: (path, text) => written.push(path, text) })).toBe(true)
    expect(written).toEqual([plan.source?.path, plan.source?.text])
    expect(ran.map(({ command }) => command)).toEqual(plan.commands)
    expect(ran.every(({ options }) => options?.env?.['DEBIAN_FRONTEND'] === 'noninteractive' && options.env['A'] === '1')).toBe(true)
  })

  it('stops at the first failure', () => {
    let runs = 0
    const runner = {
      run() {
        runs += 1
        return { status: 100, stdout: '', stderr: 'E: no network\n' }
      },
    }
    expect(carryOut(plan, { runner, env: {}, dryRun: false, write: () => {} })).toBe(false)
    expect(runs).toBe(1)
  })

  it('writes nothing in a dry run', () => {
    const written: string[] = []
    const shown: (readonly string[])[] = []
    const runner = {
      run(command: readonly string[], options?: RunOptions) {
        if (!options?.look) shown.push(command)
        return { status: 0, stdout: '', stderr: '' }
      },
    }
    carryOut(plan, { runner, env: {}, dryRun: true, write: (path) => written.push(path) })
    expect(written).toEqual([])
    expect(shown).toEqual(plan.commands)
  })
})

describe('reading the system', () => {
  it('reads os-release with and without quotes', () => {
    expect(parseOsRelease('ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')).toEqual({
      ID: 'debian',
      VERSION_CODENAME: 'bookworm',
      PRETTY_NAME: 'Debian GNU/Linux 12 (bookworm)',
    })
  })

  it('finds the archive and backports in both formats of apt', () => {
    const deb822 =
      'Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n\nTypes: deb\nURIs: http://mirror.example/security\nSuites: bookworm-security\nComponents: main\n'
    const archive = { uri: 'http://mirror.example/debian', signedBy: '/k.gpg' }
    expect(readAptSources([deb822])).toEqual({ enabled: false, archive })
    expect(readAptSources([deb822, 'deb http://mirror.example/debian bookworm-backports main\n'])).toEqual({ enabled: true, archive })
    expect(readAptSources([deb822, '# deb http://mirror.example/debian bookworm-backports main\n'])).toEqual({ enabled: false, archive })
    expect(readAptSources(['deb [arch=amd64 signed-by=/a.gpg] http://one.example/debian bookworm main\n'])).toEqual({
      enabled: false,
      archive: { uri: 'http://one.example/debian', signedBy: '/a.gpg' },
    })
    expect(readAptSources([''])).toEqual({ enabled: false, archive: null })
  })
})
