/**
 * Makes assets/calibration/general.jsonl, the text that models other than the demo model are calibrated on unless the user brings their own:
 * prose (this project's documents and comments), code (its sources) and dialogue (the demo model's calibration text). All of it is ours, under
 * the project's licence. Run it by hand when the sources have changed a lot: node app/dev/calibration-text.ts
 */
import { globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from './tools.ts'

/** Characters of a document: about 500 tokens. */
const LENGTH = 2000
const SHARES = { prose: 112, code: 80, dialogue: 64 }

/** Whole paragraphs up to LENGTH each. */
function pieces(text: string): string[] {
  const found: string[] = []
  let piece = ''
  for (const paragraph of text.split(/\n{2,}/)) {
    if (piece.length + paragraph.length > LENGTH && piece.length > LENGTH / 2) {
      found.push(piece.slice(0, LENGTH))
      piece = ''
    }
    piece += `${paragraph}\n\n`
  }
  return piece.length > LENGTH / 4 ? [...found, piece.slice(0, LENGTH)] : found
}

function sources(): string[] {
  const paths = ['engine', 'app', 'renderer'].flatMap((folder) => globSync(`${folder}/**/*.{ts,tsx,wgsl,css}`, { cwd: ROOT }))
  return paths
    .filter((path) => !/\.test\.|\.build|node_modules/.test(path))
    .sort()
    .map((path) => readFileSync(join(ROOT, path), 'utf8'))
}

/** The words of block comments, line breaks and stars taken out: sentences as people write them. */
function comments(text: string): string {
  return [...text.matchAll(/\/\*\*([\s\S]*?)\*\//g)]
    .map(([, body = '']) =>
      body
        .replace(/^\s*\* ?/gm, '')
        .replace(/\s+/g, ' ')
        .trim(),
    )
    .join('\n\n')
}

/** Every n-th, so that all parts of the project are there. */
function spread(documents: readonly string[], count: number): string[] {
  if (documents.length < count) throw new Error(`${documents.length} documents where ${count} are needed`)
  return Array.from({ length: count }, (_, i) => documents[Math.floor((i * documents.length) / count)] ?? '')
}

const all = sources()
const markdown = ['README.md', 'CHANGELOG.md', ...globSync('engine/**/README.md', { cwd: ROOT }).sort()].map((path) =>
  readFileSync(join(ROOT, path), 'utf8'),
)
const prose = [...markdown.flatMap(pieces), ...pieces(all.map(comments).filter(Boolean).join('\n\n'))]
const dialogue = readFileSync(join(ROOT, 'assets/demo-eval/calibration.jsonl'), 'utf8')
  .trim()
  .split('\n')
  .map((line) => (JSON.parse(line) as { text: string }).text)
  .map((text) =>
    text.replace(/<\|im_start\|>(\w+)\n/g, (_, role: string) => `${role[0]?.toUpperCase()}${role.slice(1)}: `).replaceAll('<|im_end|>', ''),
  )
const documents = [...spread(prose, SHARES.prose), ...spread(all.flatMap(pieces), SHARES.code), ...spread(dialogue, SHARES.dialogue)]
const folder = join(ROOT, 'assets/calibration')
mkdirSync(folder, { recursive: true })
writeFileSync(join(folder, 'general.jsonl'), documents.map((text) => `${JSON.stringify({ text })}\n`).join(''))
