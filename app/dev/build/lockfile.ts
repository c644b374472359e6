/** Reads package-lock.json: which installed package a name means from a given place, and what a set of packages needs in all. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from '../tools.ts'

export interface LockedPackage {
  readonly version: string
  readonly license?: string
  readonly dev?: boolean
  readonly optional?: boolean
  readonly os?: readonly string[]
  readonly cpu?: readonly string[]
  readonly dependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
}

/** Keys are folders: "node_modules/a/node_modules/b". */
export type Lockfile = Readonly<Record<string, LockedPackage>>

export function readLockfile(root = ROOT): Lockfile {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as { packages: Lockfile }
  return packages
}

/** Folder of the package that `name` resolves to from the package in `from` ("" is the project), as Node searches: inside out. */
export function resolvePackage(lockfile: Lockfile, name: string, from: string): string | null {
  for (let folder = from; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/')))) {
    const candidate = folder === '' ? `node_modules/${name}` : `${folder}/node_modules/${name}`
    if (lockfile[candidate]) return candidate
    if (folder === '') return null
  }
}

/** Folders of the named packages and of everything that they need at run time. Peers count when they are installed. */
export function closure(lockfile: Lockfile, names: Iterable<string>): readonly string[] {
  const found = new Set<string>()
  const visit = (name: string, from: string): void => {
    const folder = resolvePackage(lockfile, name, from)
    if (folder === null || found.has(folder)) return
    found.add(folder)
    const { dependencies, optionalDependencies, peerDependencies } = lockfile[folder] ?? {}
    for (const needed of Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies })) visit(needed, folder)
  }
  for (const name of names) visit(name, '')
  return [...found].toSorted()
}
