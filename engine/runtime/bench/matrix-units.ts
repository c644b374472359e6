/**
 * `node engine/runtime/bench/matrix-units.ts [adapter]`: golden models on matrix units, each with its worst difference from values computed elsewhere, beside
 * that of the default kernels; then what the mode does to the demo model's log-probabilities on held-out text. Ends with 1 if a value is beyond the suite's
 * tolerance, and with the reason if the adapter has no units that can be used.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { openBackend } from '../../gpu/webgpu/backend.ts'
import { openCheckpoint } from '../../checkpoint/open.ts'
import { loadTokenizer } from '../../tokenizer/tokenizer.ts'
import { loadModel } from '../../model/load.ts'
import { modelFolder } from '../../model/test/golden-data.ts'
import { MATRIX_MODELS, MATRIX_TOLERANCE, matrixGolden } from '../../model/test/matrix-golden.ts'
import { scorePrompt } from '../../model/test/steps.ts'

const WINDOW = 512
const WINDOWS = 12

await using backend = await openBackend(process.argv[2] ?? null)
const began = performance.now()
const state = (await backend.matrixUnits?.()) ?? { reason: 'This backend has none.' }
console.log(
  `${backend.id}: matrix units ${state.reason === null ? `checked in ${(performance.now() - began).toFixed(0)} ms` : `unavailable: ${state.reason}`}`,
)
if (state.reason !== null) process.exit(2)
console.log(
  '\n| model | worst difference, default | with matrix units | prompts of 32 tokens and more | another first token |\n|---|--:|--:|--:|--:|',
)
for (const name of MATRIX_MODELS) {
  const { worst, worstDefault, taken, prompts, otherTop } = await matrixGolden(backend, name, 32)
  if (worst > MATRIX_TOLERANCE || otherTop > 0) process.exitCode = 1
  console.log(`| ${name} | ${worstDefault.toExponential(1)} | ${worst.toExponential(1)} | ${taken} of ${prompts} | ${otherTop} |`)
}

const folder = modelFolder('demo')
await using checkpoint = await openCheckpoint(folder)
const tokenizer = await loadTokenizer(folder)
const text = readFileSync(fileURLToPath(new URL('../../../assets/demo-eval/perplexity.txt', import.meta.url)), 'utf8')
const tokens = tokenizer.encode(text, { addSpecialTokens: false })
const logprobs: number[][] = []
for (const matrixUnits of [false, true]) {
  const capacity = { tokens: WINDOW, rows: WINDOW, sequences: 1 }
  using model = await loadModel({ checkpoint, backend, contextTokens: WINDOW, kvDtype: 'f32', capacity, owner: 'demo', matrixUnits })
  const each: number[] = []
  for (let i = 0; i < WINDOWS && (i + 1) * WINDOW <= tokens.length; i++) {
    each.push(...(await scorePrompt(model, Array.from(tokens.subarray(i * WINDOW, (i + 1) * WINDOW)))).logprobs)
  }
  logprobs.push(each)
}
const [plain = [], matrix = []] = logprobs
const perplexity = (values: readonly number[]): number => Math.exp(-values.reduce((sum, value) => sum + value, 0) / values.length)
const differences = plain.map((value, i) => Math.abs(value - (matrix[i] ?? NaN)))
console.log(`\ndemo model, ${plain.length} tokens of held-out text in windows of ${WINDOW}:`)
console.log(`perplexity ${perplexity(plain).toFixed(5)} by default, ${perplexity(matrix).toFixed(5)} with matrix units`)
console.log(
  `log-probabilities differ by ${(differences.reduce((sum, value) => sum + value, 0) / differences.length).toExponential(2)} on average, ${Math.max(...differences).toExponential(2)} at most`,
)
