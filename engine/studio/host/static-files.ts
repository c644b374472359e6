/**
 * The built page as a closed list of files. A request path is only ever looked up in that list, never joined to a folder, so no spelling of `..`,
 * no encoding and no symlink can reach anything else. The list is read again with every document: a rebuilt page works without a restart.
 */
import { createReadStream } from 'node:fs'
import type { ReadStream } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { extname, join } from 'node:path'

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.webmanifest': 'application/manifest+json; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.woff2': 'font/woff2',
  '.txt': 'text/plain; charset=utf-8',
}

export interface StaticFile {
  readonly contentType: string
  readonly cacheControl: string
  open(): ReadStream
}

export class StaticFiles {
  readonly #folder: string
  #paths: ReadonlySet<string> = new Set()

  /** `folder` is absolute and may be missing or empty: then there is no page, and `find` returns null. */
  constructor(folder: string) {
    this.#folder = folder
  }

  /**
   * The file behind a URL path. With `document` set, a path without a file is a screen of the page and gives index.html; null when there is none.
   * `pathname` comes from a URL parser and is still percent-encoded.
   */
  async find(pathname: string, { document }: { readonly document: boolean }): Promise<StaticFile | null> {
    const path = pathname === '/' ? '/index.html' : decode(pathname)
    if (document || this.#paths.size === 0) this.#paths = await listFiles(this.#folder)
    if (path !== null && this.#paths.has(path)) return this.#describe(path)
    return document && this.#paths.has('/index.html') ? this.#describe('/index.html') : null
  }

  #describe(path: string): StaticFile {
    return {
      contentType: CONTENT_TYPES[extname(path)] ?? 'application/octet-stream',
      // Names under assets/ carry a hash of their content, so they can be kept for ever; everything else is asked for again.
      cacheControl: path.startsWith('/assets/') ? 'public, max-age=31536000, immutable' : 'no-cache',
      open: () => createReadStream(join(this.#folder, path)),
    }
  }
}

/** Regular files only, as URL paths: a symlink is neither followed nor listed. */
async function listFiles(folder: string): Promise<ReadonlySet<string>> {
  const paths = new Set<string>()
  const visit = async (relative: string): Promise<void> => {
    const entries = await readdir(join(folder, relative), { withFileTypes: true }).catch(() => []) // not built yet, or being rebuilt
    for (const entry of entries) {
      if (entry.isDirectory()) await visit(`${relative}/${entry.name}`)
      else if (entry.isFile()) paths.add(`${relative}/${entry.name}`)
    }
  }
  await visit('')
  return paths
}

function decode(pathname: string): string | null {
  try {
    return decodeURIComponent(pathname)
  } catch {
    return null // malformed percent-encoding names no file
  }
}
