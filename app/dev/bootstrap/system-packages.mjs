// @ts-check
/**
 * What the operating system must provide that npm cannot: a Vulkan driver for the engine (Mesa's lavapipe where there is no GPU), and for the tests
 * a browser, fonts and the software drivers. `planSystem` is a pure function from facts to commands; only root runs them, everybody else is shown one line.
 *
 * Debian 12 ships Mesa 22.3, whose lavapipe lacks features that Dawn requires; 25 from bookworm-backports has them.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findChromium, findLavapipe, findSwiftShader } from './browsers.mjs'
import { lastLine } from './node-runtime.mjs'
import { notice, quoteArgument } from './process.mjs'

/**
 * @typedef {'gpu' | 'software-gpu' | 'browser'} Need
 * `gpu`: any adapter that Dawn accepts. `software-gpu`: lavapipe in particular. `browser`: Chromium, a font and SwiftShader.
 *
 * @typedef {object} SystemFacts
 * @property {NodeJS.Platform} platform
 * @property {boolean} root
 * @property {string} distribution ID of os-release: "debian", "ubuntu", …; "" where there is none.
 * @property {readonly string[]} like ID_LIKE of os-release.
 * @property {string} codename VERSION_CODENAME of os-release: "bookworm", …
 * @property {string | null} adapter Name of the adapter that Dawn chose.
 * @property {string | null} lavapipe Name of the adapter when only lavapipe is offered.
 * @property {string | null} chromium
 * @property {string | null} swiftShader
 * @property {boolean} fonts
 * @property {{ enabled: boolean, archive: { uri: string, signedBy: string | null } | null }} backports
 *
 * @typedef {object} SystemPlan
 * @property {readonly string[]} missing What is missing, in words; empty when nothing is.
 * @property {{ path: string, text: string } | null} source An apt source to add first.
 * @property {readonly (readonly string[])[]} commands
 * @property {boolean} needsRoot
 */

const BACKPORTS_FILE = '/etc/apt/sources.list.d/lathe-backports.sources'

/**
 * @param {SystemFacts} facts
 * @param {readonly Need[]} needs
 * @param {{ playwright: readonly string[] }} tools How to run Playwright's own installer.
 * @returns {SystemPlan}
 */
export function planSystem(facts, needs, { playwright }) {
  const vulkan = (needs.includes('gpu') && !facts.adapter) || (needs.includes('software-gpu') && !facts.lavapipe)
  const browser = needs.includes('browser') && !facts.chromium
  const swiftShader = needs.includes('browser') && facts.platform === 'linux' && !facts.swiftShader
  const fonts = needs.includes('browser') && facts.platform === 'linux' && !facts.fonts
  const missing = [
    ...(vulkan ? [facts.platform === 'linux' ? 'a Vulkan driver that Dawn can use' : 'a usable GPU'] : []),
    ...(browser ? ['Chromium'] : []),
    ...(swiftShader && !browser ? ["Chromium's SwiftShader driver"] : []),
    ...(fonts ? ['a font'] : []),
  ]
  /** @type {SystemPlan} */
  const nothing = { missing, source: null, commands: [], needsRoot: false }
  if (missing.length === 0) return nothing
  const playwrightInstall = [...playwright, 'install', 'chromium']

  if (facts.platform !== 'linux') return browser ? { ...nothing, commands: [playwrightInstall] } : nothing

  const ubuntu = facts.distribution === 'ubuntu' || facts.like.includes('ubuntu')
  const debian = ubuntu || facts.distribution === 'debian' || facts.like.includes('debian')
  if (debian) {
    const bookworm = facts.distribution === 'debian' && facts.codename === 'bookworm'
    // Ubuntu's chromium package is a stub for a snap, so there the browser is Playwright's.
    const packages = [...(fonts ? ['fonts-liberation'] : []), ...((browser || swiftShader) && !ubuntu ? ['chromium'] : [])]
    const drivers = vulkan ? ['libvulkan1', 'mesa-vulkan-drivers'] : []
    const install = ['apt-get', 'install', '-y', '--no-install-recommends']
    const fromBackports = bookworm && drivers.length > 0
    const fromApt = packages.length > 0 || drivers.length > 0
    return {
      missing,
      source: fromBackports && !facts.backports.enabled && facts.backports.archive ? backportsSource(facts.backports.archive) : null,
      commands: [
        ...(fromApt ? [['apt-get', 'update']] : []),
        ...(fromBackports ? [[...install, '-t', 'bookworm-backports', ...drivers]] : []),
        ...(packages.length > 0 || (drivers.length > 0 && !fromBackports)
          ? [[...install, ...(fromBackports ? [] : drivers), ...packages]]
          : []),
        ...(ubuntu && (browser || swiftShader) ? [[...playwright, 'install', '--with-deps', 'chromium']] : []),
      ],
      needsRoot: true,
    }
  }
  const family = [facts.distribution, ...facts.like]
  const browserCommands = browser || swiftShader ? [playwrightInstall] : []
  if (family.includes('fedora') || family.includes('rhel')) {
    const packages = [...(vulkan ? ['vulkan-loader', 'mesa-vulkan-drivers'] : []), ...(fonts ? ['liberation-fonts'] : [])]
    return {
      ...nothing,
      commands: [...(packages.length > 0 ? [['dnf', 'install', '-y', ...packages]] : []), ...browserCommands],
      needsRoot: packages.length > 0,
    }
  }
  if (family.includes('arch')) {
    const packages = [...(vulkan ? ['vulkan-icd-loader', 'vulkan-swrast'] : []), ...(fonts ? ['ttf-liberation'] : [])]
    return {
      ...nothing,
      commands: [...(packages.length > 0 ? [['pacman', '-S', '--needed', '--noconfirm', ...packages]] : []), ...browserCommands],
      needsRoot: packages.length > 0,
    }
  }
  return { ...nothing, commands: browserCommands }
}

/** Backports live in the same archive as the release, so the mirror that the machine already trusts is used. @param {{ uri: string, signedBy: string | null }} archive */
function backportsSource({ uri, signedBy }) {
  const lines = [
    'Types: deb',
    `URIs: ${uri}`,
    'Suites: bookworm-backports',
    'Components: main',
    ...(signedBy ? [`Signed-By: ${signedBy}`] : []),
  ]
  return { path: BACKPORTS_FILE, text: `${lines.join('\n')}\n` }
}

/**
 * The plan as one line to paste into a shell, or null when there is nothing to run.
 * @param {SystemPlan} plan
 */
export function asShellLine({ source, commands, needsRoot }) {
  const sudo = needsRoot ? 'sudo ' : ''
  const parts = commands.map((command) => `${sudo}${command.map(quoteArgument).join(' ')}`)
  if (source) parts.unshift(`printf '${source.text.replaceAll('\n', '\\n')}' | sudo tee ${source.path} >/dev/null`)
  return parts.length > 0 ? parts.join(' && ') : null
}

/**
 * Carries the plan out. False when a command failed; the reason has been printed.
 * @param {SystemPlan} plan
 * @param {{ runner: import('./process.mjs').Runner, env: Record<string, string | undefined>, dryRun: boolean, write?: (path: string, text: string) => void }} options
 */
export function carryOut({ missing, source, commands }, { runner, env, dryRun, write = writeFileSync }) {
  notice(`missing ${missing.join(' and ')}: installing system packages…`)
  if (source) {
    if (dryRun) notice(`would write ${source.path}`)
    else write(source.path, source.text)
  }
  for (const command of commands) {
    const { status, stderr } = runner.run(command, { quiet: true, env: { ...env, DEBIAN_FRONTEND: 'noninteractive' } })
    if (status === 0) continue
    notice(`\`${command.map(quoteArgument).join(' ')}\` failed: ${lastLine(stderr)}`)
    return false
  }
  return true
}

/**
 * Looks at this machine. `probe` runs Dawn in a child process and costs about 0.3 s, so it is asked only for what is needed.
 * @param {object} options
 * @param {readonly Need[]} options.needs
 * @param {(env: Record<string, string>) => string | null} options.probe
 * @param {NodeJS.Platform} [options.platform]
 * @returns {SystemFacts}
 */
export function readFacts({ needs, probe, platform = process.platform }) {
  const release = platform === 'linux' ? parseOsRelease(readOrEmpty('/etc/os-release')) : {}
  const lavapipe = platform === 'linux' ? findLavapipe() : null
  const wantsBrowser = needs.includes('browser')
  const chromium = wantsBrowser ? findChromium() : null
  return {
    platform,
    root: process.getuid?.() === 0,
    distribution: release['ID'] ?? '',
    like: (release['ID_LIKE'] ?? '').split(' ').filter(Boolean),
    codename: release['VERSION_CODENAME'] ?? '',
    adapter: needs.includes('gpu') ? probe({}) : null,
    lavapipe: needs.includes('software-gpu') && lavapipe ? probe({ VK_DRIVER_FILES: lavapipe }) : null,
    chromium,
    swiftShader: wantsBrowser ? findSwiftShader({ chromium }) : null,
    fonts: ['/usr/share/fonts/truetype', '/usr/share/fonts/TTF', '/usr/share/fonts/liberation-fonts', '/usr/share/fonts/opentype'].some(
      (folder) => existsSync(folder) && readdirSync(folder).length > 0,
    ),
    backports: readAptSources(),
  }
}

/** @param {string} text @returns {Record<string, string>} */
export function parseOsRelease(text) {
  return Object.fromEntries([...text.matchAll(/^(\w+)="?(.*?)"?$/gm)].map(([, key = '', value = '']) => [key, value]))
}

/**
 * Whether bookworm-backports is among the apt sources, and from which archive the release itself comes.
 * Reads both the one-line format and deb822.
 * @param {readonly string[]} [texts]
 */
export function readAptSources(texts = aptSourceTexts()) {
  const all = texts.join('\n\n').replaceAll(/^\s*#.*$/gm, '')
  const oneLine = [...all.matchAll(/^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s/gm)].map(([, options = '', uri = '', suite = '']) => ({
    uri,
    suites: [suite],
    signedBy: /signed-by=(\S+)/.exec(options)?.[1] ?? null,
  }))
  const stanzas = all
    .split(/\n\s*\n/)
    .filter((stanza) => /^Types:.*\bdeb\b/m.test(stanza) && !/^Enabled:\s*no/im.test(stanza))
    .map((stanza) => ({
      uri: /^URIs:\s*(\S+)/m.exec(stanza)?.[1] ?? '',
      suites: (/^Suites:\s*(.+)$/m.exec(stanza)?.[1] ?? '').split(/\s+/),
      signedBy: /^Signed-By:\s*(\/\S+)/m.exec(stanza)?.[1] ?? null,
    }))
  const sources = [...oneLine, ...stanzas]
  const release = sources.find(({ suites, uri }) => suites.includes('bookworm') && uri)
  return {
    enabled: sources.some(({ suites }) => suites.includes('bookworm-backports')),
    archive: release ? { uri: release.uri, signedBy: release.signedBy } : null,
  }
}

/** @returns {string[]} */
function aptSourceTexts() {
  const folder = '/etc/apt/sources.list.d'
  const files = existsSync(folder) ? readdirSync(folder).filter((name) => /\.(list|sources)$/.test(name)) : []
  return ['/etc/apt/sources.list', ...files.map((name) => join(folder, name))].map(readOrEmpty)
}

/** @param {string} path */
function readOrEmpty(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '' // not every system has every file
  }
}
