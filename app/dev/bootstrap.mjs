// Placeholder until the bootstrap lands: runs the tools from an installed checkout.
import { spawnSync } from 'node:child_process'
const commands = {
  test: ['vitest', 'run', '--config', 'app/dev/vitest.config.ts'],
  check: ['tsc', '-b'],
}
const [name] = process.argv.slice(2)
const command = commands[name]
if (!command) throw new Error(`Unknown command ${name}`)
process.exit(spawnSync('npx', command, { stdio: 'inherit' }).status ?? 1)
