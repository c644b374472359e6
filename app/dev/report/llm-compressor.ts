/**
 * Lathe beside LLM Compressor on the demo model: same recipe (the one that LLM Compressor wrote into its checkpoint), same calibration (the first 256
 * documents, cut at 256 tokens), same text and protocol as the reference figures that came with that checkpoint: the first 40,000 characters of the
 * evaluation text in windows of 512, the first token of each not scored, the last window as short as it is. Prints the three perplexities.
 *   node app/dev/report/llm-compressor.ts --data ../shared/data [--adapter llvmpipe]
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { compress } from '../../../engine/compress/pipeline.ts'
import { parseRecipeYaml } from '../../../engine/compress/recipe-yaml.ts'
import { openBackend } from '../../../engine/gpu/webgpu/backend.ts'
import type { Backend } from '../../../engine/gpu/program.ts'
import { openRuntime } from '../../../engine/runtime/open-runtime.ts'
import { loadTokenizer } from '../../../engine/tokenizer/tokenizer.ts'
import { ROOT } from '../tools.ts'

const { values } = parseArgs({ options: { data: { type: 'string', default: join(ROOT, '../shared/data') }, adapter: { type: 'string' } } })
const CHARACTERS = 40_000
const WINDOW = 512
const DOCUMENTS = 256
const TOKENS = 256
/** As printed by the script that made the reference checkpoint (transformers on the CPU). */
const REFERENCE = { original: 1.67559, gptq: 1.68013 }
/** How much worse than LLM Compressor's Lathe's own may be. */
const TOLERANCE = 0.0015

const original = join(ROOT, 'assets/demo-model')
const theirs = join(values.data, 'models/llmcompressor-gptq-w4a16-g128')

async function perplexity(
  backend: Backend,
  folder: string,
  tokens: Uint32Array,
): Promise<{ readonly value: number; readonly scored: number }> {
  await using runtime = await openRuntime({
    source: folder,
    backend,
    modelId: folder,
    contextTokens: WINDOW,
    kvDtype: 'f32',
    maxSequences: 1,
  })
  let [nll, scored] = [0, 0]
  for (let start = 0; start + 1 < tokens.length; start += WINDOW) {
    const { logprobs } = await runtime.score({ tokens: tokens.slice(start, start + WINDOW), from: 1 })
    for (const logprob of logprobs) nll -= logprob
    scored += logprobs.length
  }
  return { value: Math.exp(nll / scored), scored }
}

function openDevice(): Promise<Backend> {
  return openBackend(values.adapter ?? process.env['LATHE_ADAPTER'] ?? null, { profile: 'production' })
}

const scratch = await mkdtemp(join(tmpdir(), 'lathe-llm-compressor-'))
const backend = await openDevice()
try {
  const lines = (await readFile(join(ROOT, 'assets/demo-eval/calibration.jsonl'), 'utf8')).trim().split('\n').slice(0, DOCUMENTS)
  const calibrationFile = join(scratch, 'first-documents.jsonl')
  await writeFile(calibrationFile, lines.join('\n'))
  const ours = join(scratch, 'lathe')
  const report = await compress({
    sourceFolder: original,
    outFolder: ours,
    recipe: { recipe: parseRecipeYaml(await readFile(join(theirs, 'recipe.yaml'), 'utf8')) },
    seed: 0,
    resume: false,
    latheVersion: 'report',
    calibration: { path: calibrationFile, samples: DOCUMENTS, sequenceLength: TOKENS, seed: 0 },
    openBackend: openDevice,
  })
  const tokenizer = await loadTokenizer(original)
  const text = (await readFile(join(ROOT, 'assets/demo-eval/perplexity.txt'), 'utf8')).slice(0, CHARACTERS)
  const tokens = tokenizer.encode(text, { addSpecialTokens: false })
  const rows = [
    { name: 'Original', ...(await perplexity(backend, original, tokens)), reference: REFERENCE.original },
    { name: 'LLM Compressor, W4A16 g128, GPTQ', ...(await perplexity(backend, theirs, tokens)), reference: REFERENCE.gptq },
    { name: 'Lathe, the same recipe', ...(await perplexity(backend, ours, tokens)), reference: null },
  ]
  console.log(`\n${backend.id}: ${rows[0]?.scored} tokens scored; weights ${report.bytesOut} bytes\n`)
  console.log('| checkpoint | perplexity, measured here | reference figure |\n|---|--:|--:|')
  for (const { name, value, reference } of rows) console.log(`| ${name} | ${value.toFixed(5)} | ${reference?.toFixed(5) ?? '—'} |`)
  const ratio = (rows[2]?.value ?? Number.NaN) / REFERENCE.gptq - 1
  console.log(`\nLathe's against LLM Compressor's reference figure: ${(100 * ratio).toFixed(3)} %`)
  if (!(ratio <= TOLERANCE)) process.exitCode = 1
} finally {
  await backend[Symbol.asyncDispose]()
  await rm(scratch, { recursive: true, force: true })
}
