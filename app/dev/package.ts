/** `npm run package`: builds everything, then lets electron-builder pack it for this platform. Its arguments are passed on, e.g. `-- --linux dir`. */
import { join } from 'node:path'
import { ROOT, runNode, toolPath } from './tools.ts'

const built = await runNode(join(ROOT, 'app/dev/build.ts'), [], { loud: true })
process.exitCode =
  built === 0 ? await runNode(toolPath('electron-builder'), ['--publish', 'never', ...process.argv.slice(2)], { loud: true }) : built
