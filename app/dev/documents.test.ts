/** The documents lead somewhere: every relative link names a file that exists and, in a document, a heading of it; README names every document. */
import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ROOT } from './tools.ts'

const documents = globSync(['*.md', '{app,assets,docs,e2e,engine,renderer}/**/*.md'], { cwd: ROOT })
  .filter((path) => path !== 'THIRD-PARTY-NOTICES.md')
  .sort()

/** The anchors that GitHub gives a document's headings. */
function anchorsOf(markdown: string): readonly string[] {
  return withoutCode(markdown)
    .split('\n')
    .filter((line) => /^#{1,6} /.test(line))
    .map((line) =>
      line
        .replace(/^#+ /, '')
        .trim()
        .toLowerCase()
        .replaceAll(/[^\p{Letter}\p{Number}\p{Mark} _-]/gu, '')
        .replaceAll(' ', '-'),
    )
}

function withoutCode(markdown: string): string {
  return markdown.replaceAll(/^```[\s\S]*?^```/gm, '')
}

function brokenLinks(path: string, markdown: string): readonly string[] {
  return [...withoutCode(markdown).matchAll(/\]\(([^)\s#]*)(?:#([^)\s]*))?\)/g)].flatMap(([link, target = '', anchor]) => {
    if (/^[a-z]+:/.test(target)) return []
    const file = target === '' ? path : normalize(join(dirname(path), target))
    if (!existsSync(join(ROOT, file))) return [`${path}: ${link}`]
    if (anchor === undefined) return []
    return anchorsOf(readFileSync(join(ROOT, file), 'utf8')).includes(anchor) ? [] : [`${path}: ${link}`]
  })
}

describe('the documents', () => {
  it('link to what exists', () => {
    expect(documents).toContain('README.md')
    expect(documents.flatMap((path) => brokenLinks(path, readFileSync(join(ROOT, path), 'utf8')))).toEqual([])
  })

  it('are all found from README', () => {
    const readme = readFileSync(join(ROOT, 'README.md'), 'utf8')
    expect(documents.filter((path) => path.startsWith('docs/') && !readme.includes(`](${path})`))).toEqual([])
  })

  it('name scripts that exist in the commands that they give', () => {
    const scripts = documents.flatMap((path) =>
      [...readFileSync(join(ROOT, path), 'utf8').matchAll(/\bnode ((?:app|engine|assets|e2e)\/[\w./-]+\.(?:ts|mjs))/g)].map(
        ([, script = '']) => ({ path, script }),
      ),
    )
    expect(scripts.length).toBeGreaterThan(0)
    expect(scripts.filter(({ script }) => !existsSync(join(ROOT, script)))).toEqual([])
  })

  it('would be caught with a link to nothing', () => {
    expect(
      brokenLinks('docs/server.md', '[a](absent.md) [b](#no-such-heading) [c](tool-calling.md#structural-tags) [d](https://example.org)'),
    ).toEqual(['docs/server.md: ](absent.md)', 'docs/server.md: ](#no-such-heading)'])
  })
})
