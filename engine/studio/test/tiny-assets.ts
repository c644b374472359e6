/** An assets folder with a tiny demo model and evaluation data of a few lines, so that a whole evaluation takes milliseconds. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { writeTinyModel } from './tiny-model.ts'

export function writeTinyAssets(folder: string): string {
  writeTinyModel(join(folder, 'demo-model'))
  writeFileSync(join(folder, 'demo-model', 'README.md'), '---\nlicense: mit\n---\n# Tiny demo\n')
  const data = join(folder, 'demo-eval')
  mkdirSync(data, { recursive: true })
  writeFileSync(join(data, 'perplexity.txt'), 'abcdefghijklmnop'.repeat(70))
  const items = [
    { query: 'abc', choices: ['def', 'xxx'], gold: 0 },
    { query: 'bcd', choices: ['zzz', 'efg'], gold: 1 },
    { query: 'cde', choices: ['fgh', 'aaa'], gold: 1 },
  ]
  for (const name of ['world_facts', 'reading', 'arithmetic', 'completion']) {
    writeFileSync(join(data, `${name}.jsonl`), items.map((item) => `${JSON.stringify(item)}\n`).join(''))
  }
  mkdirSync(join(folder, 'calibration'), { recursive: true })
  const texts = ['abcdefgh', 'bcdefghi', 'cdefghij'].map((text) => `${JSON.stringify({ text: text.repeat(8) })}\n`)
  writeFileSync(join(folder, 'calibration', 'general.jsonl'), texts.join(''))
  return folder
}
