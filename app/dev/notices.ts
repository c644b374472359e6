/**
 * `npm run notices` writes THIRD-PARTY-NOTICES.md: every package that an application ships, from package-lock.json, with its licence text.
 * `--check` compares the list of packages only, so that it is the same on every platform, although each installs its own binaries.
 * It refuses a package without a licence: such a package may not be shipped.
 */
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { closure, readLockfile, type Lockfile } from './build/lockfile.ts'
import { ROOT } from './tools.ts'

const FILE = join(ROOT, 'THIRD-PARTY-NOTICES.md')

export interface Notice {
  readonly name: string
  readonly version: string
  readonly license: string
  /** Folder below the checkout, "node_modules/a". */
  readonly folder: string
}

/** Packages of the page, the engine, the Node beside it, and Electron; sorted by name, then version. Throws when one has no licence. */
export function shippedPackages(lockfile: Lockfile): readonly Notice[] {
  const root = lockfile['']
  const names = [...Object.keys(root?.dependencies ?? {}), ...Object.keys(root?.optionalDependencies ?? {})]
  // Electron is a development dependency of the checkout, but its binary is in the application. What it needs only to be downloaded is not.
  const folders = [...closure(lockfile, names), 'node_modules/electron']
  const notices = folders.map((folder) => {
    const { version, license } = lockfile[folder] ?? { version: '', license: undefined }
    const name = folder.slice(folder.lastIndexOf('node_modules/') + 'node_modules/'.length)
    if (!license) throw new Error(`${name}@${version} names no licence in package-lock.json: find out, or do not ship it.`)
    return { name, version, license, folder }
  })
  return notices.toSorted((a, b) => (`${a.name} ${a.version}` < `${b.name} ${b.version}` ? -1 : 1))
}

/** The table at the top of the file: the part that the check compares. */
export function noticesTable(notices: readonly Notice[]): string {
  const rows = notices.map(({ name, version, license }) => `| ${name} | ${version} | ${license} |`)
  return ['| package | version | licence |', '|---|---|---|', ...new Set(rows)].join('\n')
}

function render(notices: readonly Notice[]): string {
  const byText = new Map<string, string[]>()
  for (const { name, version, folder } of notices) {
    const text = licenseText(join(ROOT, folder))
    if (text === null) continue
    const users = byText.get(text) ?? []
    byText.set(text, [...users, `${name} ${version}`])
  }
  const texts = [...byText].map(([text, users]) => `### ${[...new Set(users)].join(', ')}\n\n\`\`\`text\n${text}\n\`\`\``)
  return `# Third-party notices

Lathe ships the packages below. This file is made from package-lock.json by \`npm run notices\`; \`npm run check\` tells when it is out of date.
Packages for other platforms are listed without a text of their own: it is the same as that of their sibling.
Electron's own third-party parts, Chromium among them, are listed in the \`LICENSES.chromium.html\` that lies beside its binary.

${noticesTable(notices)}

## Licence texts

${texts.join('\n\n')}
`
}

/** LICENSE, LICENCE or COPYING of an installed package, in whatever case and with whatever ending. */
function licenseText(folder: string): string | null {
  if (!existsSync(folder)) return null
  const file = readdirSync(folder).find((name) => /^(licen[cs]e|copying)([.-].*)?$/i.test(name))
  return file === undefined ? null : readFileSync(join(folder, file), 'utf8').trim().replaceAll('\r\n', '\n').replaceAll('```', "'''")
}

function main(): void {
  const notices = shippedPackages(readLockfile())
  if (process.argv.includes('--write')) {
    writeFileSync(FILE, render(notices))
    console.error(`wrote ${basename(FILE)}: ${notices.length} packages`)
    return
  }
  if (existsSync(FILE) && readFileSync(FILE, 'utf8').includes(`${noticesTable(notices)}\n\n`)) return
  console.error(`${basename(FILE)} does not list what package-lock.json ships: run \`npm run notices\`.`)
  process.exitCode = 1
}

if (process.argv[1] === import.meta.filename) main()
