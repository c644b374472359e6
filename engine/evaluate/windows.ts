/**
 * How a long text is cut into scored windows: the three perplexity protocols in use (specs/evaluation.md §1.2–1.4).
 * Their numbers are not comparable with each other, which is why every result carries its protocol.
 * Works on token counts and positions only.
 */
import { LatheError } from '../contract/errors.ts'

export type PerplexityProtocol = 'rolling' | 'gptq' | 'llamacpp'

/**
 * One forward pass: the model reads `input` and the tokens from index `from` of `input` on are scored given what stands before them.
 * `firstPosition` is the text position of input[from].
 */
export interface ScoredWindow {
  readonly input: Uint32Array
  readonly from: number
  readonly firstPosition: number
}

/**
 * lm-eval's loglikelihood_rolling with context length 1: window 1 reads the prefix token and scores the first `window` tokens; each later
 * window scores the next `window` tokens; the last, shorter one gets a full-length context. Every token is scored exactly once.
 */
export function* rollingWindows(tokens: Uint32Array, window: number, prefixToken: number): Generator<ScoredWindow> {
  const n = tokens.length
  for (let start = 0; start < n; start += window) {
    const end = Math.min(start + window, n)
    if (start === 0) {
      const input = new Uint32Array(end + 1)
      input[0] = prefixToken
      input.set(tokens.subarray(0, end), 1)
      yield { input, from: 1, firstPosition: 0 }
    } else {
      const contextStart = end - window - 1
      yield { input: tokens.slice(contextStart, end), from: start - contextStart, firstPosition: start }
    }
  }
}

/** GPTQ papers: non-overlapping blocks, the tail dropped, the first token of each block not scored. */
export function* gptqWindows(tokens: Uint32Array, window: number): Generator<ScoredWindow> {
  for (let start = 0; start + window <= tokens.length; start += window) {
    yield { input: tokens.slice(start, start + window), from: 1, firstPosition: start + 1 }
  }
}

/** llama.cpp's perplexity tool: as GPTQ's blocks, the first token replaced by BOS where there is one, only the second half scored. */
export function* llamacppWindows(tokens: Uint32Array, window: number, bosToken: number | null): Generator<ScoredWindow> {
  const half = window >> 1
  for (let start = 0; start + window <= tokens.length; start += window) {
    const input = tokens.slice(start, start + window)
    if (bosToken !== null) input[0] = bosToken
    yield { input, from: half, firstPosition: start + half }
  }
}

export interface WindowOptions {
  readonly protocol: PerplexityProtocol
  /** Tokens per window; the model must have a context of at least window + 1 for `rolling`, window for the others. */
  readonly window: number
  readonly bosToken: number | null
  readonly eosToken: number | null
}

/** All windows of a text under a protocol. Throws `evaluate.invalid-data` when the text is too short to yield one. */
export function windowsOf(tokens: Uint32Array, options: WindowOptions): ScoredWindow[] {
  const { protocol, window } = options
  if (!Number.isInteger(window) || window < 2) {
    throw new LatheError(
      'request.invalid',
      `A perplexity window must be a whole number of at least 2 tokens, got ${window}.`,
      'Use 512 or 2048.',
    )
  }
  let windows: ScoredWindow[]
  if (protocol === 'rolling') {
    const prefix = options.bosToken ?? options.eosToken
    if (prefix === null) {
      throw new LatheError(
        'evaluate.invalid-data',
        'The rolling protocol needs a BOS or EOS token as prefix, and this tokenizer names neither.',
        'Use the gptq protocol.',
      )
    }
    windows = [...rollingWindows(tokens, window, prefix)]
  } else if (protocol === 'gptq') {
    windows = [...gptqWindows(tokens, window)]
  } else {
    // The tool itself refuses texts shorter than two chunks.
    windows = tokens.length >= 2 * window ? [...llamacppWindows(tokens, window, options.bosToken)] : []
  }
  if (windows.length === 0) {
    throw new LatheError(
      'evaluate.invalid-data',
      `The text has ${tokens.length} tokens, too few for one window of ${window} under the ${protocol} protocol.`,
      'Use a longer text or a smaller window.',
    )
  }
  return windows
}
