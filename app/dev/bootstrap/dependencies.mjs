// @ts-check
/**
 * Keeps node_modules equal to package-lock.json. The stamp inside node_modules holds the hash of the lockfile it was installed from and the platform,
 * and is written last: an interrupted or foreign installation has no stamp and is done again.
 */
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { npmCommand, npmEnvironment, npmFailure, standaloneNode } from './node-runtime.mjs'
import { BootstrapError, notice } from './process.mjs'

const STAMP = join('node_modules', '.lathe-lock')

/** @param {import('./node-runtime.mjs').NodeContext} context */
export function expectedStamp({ root, platform, arch }) {
  const hash = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex')
  return `${hash} ${platform}-${arch}\n`
}

/** True when node_modules was completely installed from this lockfile. @param {import('./node-runtime.mjs').NodeContext} context */
export function dependenciesAreCurrent(context) {
  return readText(join(context.root, STAMP)) === expectedStamp(context)
}

/**
 * Runs `npm ci` under Node 24: under an older Node npm silently skips optional packages whose `engines` ask for more.
 * @param {import('./node-runtime.mjs').NodeContext} context
 * @param {{ dryRun?: boolean }} [options]
 */
export function installDependencies(context, { dryRun = false } = {}) {
  const node = standaloneNode(context)
  const { packages = {} } = JSON.parse(readFileSync(join(context.root, 'package-lock.json'), 'utf8'))
  notice(`installing ${Object.keys(packages).length - 1} packages with npm (a minute or two, once)…`)
  const started = Date.now()
  const { status, stderr } = context.runner.run(
    npmCommand(context, node, ['ci', '--no-audit', '--no-fund', '--no-update-notifier', '--loglevel=error']),
    { cwd: context.root, quiet: true, env: npmEnvironment(context, node) },
  )
  if (status !== 0) {
    throw new BootstrapError(
      `npm could not install the packages: ${npmFailure(stderr)}`,
      'Check the network and the free disk space (about 1 GB is needed), then run the same command again.',
    )
  }
  if (dryRun) return
  writeFileSync(join(context.root, STAMP), expectedStamp(context))
  notice(`packages installed in ${Math.round((Date.now() - started) / 1000)} s`)
}

/** @param {string} path @returns {string | null} */
function readText(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null // absent or unreadable: both mean "not installed"
  }
}
