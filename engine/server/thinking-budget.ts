/**
 * `thinking_token_budget`: a model that has thought for so many tokens must close its thinking with the next one. A mask like that of structured
 * output, so it binds whatever the sampler wants, also under speculation, and walks back exactly. Knows no text: the tags are single tokens.
 */
import type { TokenMaskProvider } from '../runtime/types.ts'
import type { ReasoningStart } from './reasoning.ts'

interface Tags {
  readonly openId: number | null
  readonly closeId: number
  readonly vocabulary: number
}

type State =
  /** The next token may begin the thinking. */
  { readonly kind: 'start' } | { readonly kind: 'thinking'; readonly tokens: number } | { readonly kind: 'over' }

/** `inner` null = nothing else binds the answer. */
export function limitThinking(inner: TokenMaskProvider | null, start: ReasoningStart, budget: number, tags: Tags): TokenMaskProvider {
  const initial: State = start === 'inside' ? { kind: 'thinking', tokens: 0 } : start === 'possible' ? { kind: 'start' } : { kind: 'over' }
  /** After each accepted token. */
  const states: State[] = []
  const now = (): State => states.at(-1) ?? initial
  const mustClose = (): boolean => {
    const state = now()
    return state.kind === 'thinking' && state.tokens >= budget
  }
  const onlyClose = new Uint32Array(Math.ceil(tags.vocabulary / 32))
  onlyClose[tags.closeId >> 5] = 1 << (tags.closeId & 31)
  return {
    ready: inner?.ready,
    mask: () => (mustClose() ? onlyClose : (inner?.mask() ?? null)),
    accept: (token) => {
      if (mustClose() && token !== tags.closeId) return false
      if (inner !== null && !inner.accept(token)) return false
      states.push(after(now(), token, tags))
      return true
    },
    rollback: (count) => {
      inner?.rollback(count)
      states.length -= count
    },
    dispose: () => inner?.dispose?.(),
  }
}

const OVER: State = { kind: 'over' }

function after(state: State, token: number, { openId, closeId }: Tags): State {
  if (state.kind === 'start') return token === openId ? { kind: 'thinking', tokens: 0 } : OVER
  if (state.kind === 'thinking') return token === closeId ? OVER : { kind: 'thinking', tokens: state.tokens + 1 }
  return OVER
}
