/**
 * Perplexity and bits per byte of whole texts against figures made outside Lathe (test/golden/perplexity-whole.py), under all three protocols. Ends
 * with 1 where one differs in its first four digits.
 *   node engine/evaluate/bench/perplexity-whole.ts [--adapter NAME] [--model NAME]
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openBackend } from '../../gpu/webgpu/backend.ts'
import { openRuntime } from '../../runtime/open-runtime.ts'
import { loadTokenizer } from '../../tokenizer/tokenizer.ts'
import { measurePerplexity } from '../perplexity.ts'
import type { PerplexityProtocol } from '../windows.ts'

interface Figure {
  readonly model: string
  readonly protocol: PerplexityProtocol
  readonly window: number
  readonly tokens: number
  readonly bytes: number
  readonly perplexity: number
  readonly bits_per_byte: number
}

/** Half a unit of the fourth digit of 9.999, relative to it: small enough for every number. */
const FOUR_DIGITS = 5e-5

const apart = (own: number | null, reference: number): number => Math.abs((own ?? Number.NaN) / reference - 1)

const { values } = parseArgs({ options: { adapter: { type: 'string' }, model: { type: 'string' } } })
const root = join(import.meta.dirname, '../../..')
const data = join(root, '../shared/data')
const stories = join(data, 'text/tinystories.txt')
const SUBJECTS: Readonly<Record<string, { readonly folder: string; readonly text: string }>> = {
  stories260k: { folder: join(data, 'models/stories260k'), text: stories },
  'tinystories-656k': { folder: join(data, 'models/tinystories-656k'), text: stories },
  'demo-model': { folder: join(root, 'assets/demo-model'), text: join(root, 'assets/demo-eval/perplexity.txt') },
}
const golden = readFileSync(join(import.meta.dirname, '../test/golden/perplexity-whole.json'), 'utf8')
const { figures, made_by: madeBy } = JSON.parse(golden) as { readonly figures: readonly Figure[]; readonly made_by: string }

await using backend = await openBackend(values.adapter ?? null)
console.log(`${backend.id}; references: ${madeBy}\n`)
console.log('| model | protocol | tokens | perplexity | reference | relative difference | bits per byte | reference | seconds |')
console.log('|---|---|--:|--:|--:|--:|--:|--:|--:|')
let worst = 0
let miscounted = 0
for (const [name, { folder, text }] of Object.entries(SUBJECTS)) {
  if (values.model !== undefined && values.model !== name) continue
  const tokenizer = await loadTokenizer(folder)
  const sample = { name, text: readFileSync(text, 'utf8') }
  await using runtime = await openRuntime({ source: folder, backend, modelId: name, contextTokens: 513, kvDtype: 'f32', tokenizer })
  for (const figure of figures.filter(({ model }) => model === name)) {
    const began = performance.now()
    const options = { protocol: figure.protocol, window: figure.window, maxWindows: null }
    const measured = await measurePerplexity(runtime, tokenizer, sample, options)
    const seconds = (performance.now() - began) / 1000
    const difference = Math.max(apart(measured.value, figure.perplexity), apart(measured.bitsPerByte, figure.bits_per_byte))
    worst = Math.max(worst, difference)
    if (measured.tokens !== figure.tokens || measured.bytes !== figure.bytes) miscounted++
    const cells = [
      name,
      figure.protocol,
      measured.tokens === figure.tokens ? String(figure.tokens) : `${measured.tokens} (not ${figure.tokens})`,
      String(measured.value?.toPrecision(7)),
      figure.perplexity.toPrecision(7),
      difference.toExponential(1),
      String(measured.bitsPerByte?.toPrecision(7)),
      figure.bits_per_byte.toPrecision(7),
      seconds.toFixed(1),
    ]
    console.log(`| ${cells.join(' | ')} |`)
  }
}
console.log(`\nWorst relative difference ${worst.toExponential(1)}; ${miscounted} figures of other tokens or bytes.`)
if (!(worst < FOUR_DIGITS) || miscounted > 0) process.exitCode = 1
