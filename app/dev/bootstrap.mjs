// @ts-check
/**
 * Where every npm script begins: `node app/dev/bootstrap.mjs <command> …`. It needs nothing but Node 20.19 and npm, brings what is missing
 * (packages, Node 24, system packages), then runs the command under Node 24. When everything is in place it only compares one hash.
 * It knows nothing of what the commands do.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { dependenciesAreCurrent, installDependencies } from './bootstrap/dependencies.mjs'
import { currentContext, installedNode, npmEnvironment } from './bootstrap/node-runtime.mjs'
import { BootstrapError, become, dryRunner, notice, systemRunner } from './bootstrap/process.mjs'

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')

/**
 * `needs`: what the operating system must provide; `required`: without it the command makes no sense, so it stops instead of going on.
 * @type {Record<string, { script: string, args?: readonly string[], needs: readonly import('./bootstrap/system-packages.mjs').Need[], required?: boolean }>}
 */
const COMMANDS = {
  start: { script: 'app/browser/main.ts', needs: ['gpu'] },
  lathe: { script: 'app/cli/main.ts', needs: ['gpu'] },
  test: { script: 'app/dev/test.ts', needs: ['software-gpu', 'browser'], required: true },
  e2e: { script: 'app/dev/test.ts', args: ['--only', 'e2e'], needs: ['software-gpu', 'browser'], required: true },
  check: { script: 'app/dev/test.ts', args: ['--only', 'check'], needs: [] },
  format: { script: 'app/dev/format.ts', needs: [] },
  build: { script: 'app/dev/build.ts', needs: [] },
  package: { script: 'app/dev/package.ts', needs: [] },
  notices: { script: 'app/dev/notices.ts', args: ['--write'], needs: [] },
}

async function main() {
  const [name = '', ...args] = process.argv.slice(2)
  const command = COMMANDS[name]
  if (!command) {
    throw new BootstrapError(`There is no command "${name}".`, `Use one of: ${Object.keys(COMMANDS).join(', ')}.`)
  }
  const dryRun = process.env['LATHE_DRY_RUN'] === '1'
  const context = currentContext(root, dryRun ? dryRunner : systemRunner)
  if (!dependenciesAreCurrent(context)) installDependencies(context, { dryRun })
  const node = installedNode(context)
  if (!node) {
    throw new BootstrapError('npm finished but left no Node 24 behind.', 'Delete node_modules and run the same command again.')
  }
  const env = npmEnvironment(context, node)
  if (command.needs.length > 0) await provideSystem(name, command, { context, node, env, dryRun })
  if (!existsSync(join(root, command.script))) {
    throw new BootstrapError(`${command.script} is not in this checkout.`, 'Update the checkout.')
  }
  process.exitCode = await become(node, [join(root, command.script), ...(command.args ?? []), ...args], {
    // npm runs scripts in the package folder; a path on the command line is relative to where the person stands.
    cwd: name === 'lathe' ? (process.env['INIT_CWD'] ?? process.cwd()) : root,
    env,
  })
}

/**
 * Makes sure of drivers and browser, and remembers success inside node_modules, so that the next start does not look again.
 * @param {string} name
 * @param {{ needs: readonly import('./bootstrap/system-packages.mjs').Need[], required?: boolean }} command
 * @param {{ context: import('./bootstrap/node-runtime.mjs').NodeContext, node: string, env: Record<string, string | undefined>, dryRun: boolean }} options
 */
async function provideSystem(name, { needs, required = false }, { context, node, env, dryRun }) {
  const stampPath = join(root, 'node_modules', '.lathe-system')
  const remembered = existsSync(stampPath) ? readFileSync(stampPath, 'utf8').split('\n') : []
  const open = needs.filter((need) => !remembered.includes(need))
  if (open.length === 0) return
  // Loaded only here: the usual start needs none of it.
  const { asShellLine, carryOut, planSystem, readFacts } = await import('./bootstrap/system-packages.mjs')
  const tools = { playwright: [node, join(root, 'node_modules', 'playwright', 'cli.js')] }
  const probe = (/** @type {Record<string, string>} */ extra) => {
    const { stdout } = systemRunner.run([node, join(root, 'app/dev/bootstrap/probe-adapter.mjs')], {
      cwd: root,
      env: { ...env, ...extra },
      quiet: true,
      timeoutMs: 60_000, // a first Vulkan start may compile shaders for seconds; a hung driver must not hang us
    })
    return stdout ? /** @type {string | null} */ (JSON.parse(stdout).adapter) : null
  }
  const look = () => planSystem(readFacts({ needs: open, probe }), open, tools)
  let plan = look()
  const line = asShellLine(plan)
  if (plan.missing.length > 0 && line) {
    const allowed = process.env['LATHE_NO_INSTALL'] !== '1' && (!plan.needsRoot || process.getuid?.() === 0)
    if (allowed) {
      if (carryOut(plan, { runner: context.runner, env, dryRun }) && !dryRun) plan = look()
    } else {
      notice(`missing ${plan.missing.join(' and ')}. Install with: ${line}`)
    }
  }
  if (plan.missing.length === 0) {
    if (!dryRun) writeFileSync(stampPath, [...remembered.filter(Boolean), ...open].join('\n'))
    return
  }
  if (required && !dryRun) {
    throw new BootstrapError(
      `\`npm run ${name}\` can't run without ${plan.missing.join(' and ')}.`,
      line ? `Run: ${line}` : 'Install it your own way; LATHE_CHROMIUM names a browser elsewhere.',
    )
  }
  if (name === 'start') notice(`no ${plan.missing.join(' and no ')}: inspecting models works, running them will be refused`)
}

try {
  await main()
} catch (error) {
  if (!(error instanceof BootstrapError)) throw error
  notice(error.message)
  notice(error.hint)
  process.exitCode = 1
}
