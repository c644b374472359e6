/** `npm run format`: rewrites every file in the project's format. Arguments name files; without any it is all of them. */
import { runNode, toolPath } from './tools.ts'

const files = process.argv.slice(2)
process.exitCode = await runNode(toolPath('oxfmt'), files.length > 0 ? files : ['.'], { loud: true })
