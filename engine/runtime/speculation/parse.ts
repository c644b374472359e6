/** `--speculate ngram[:k] | draft:<folder>` as a Speculation. */
import { LatheError } from '../../contract/errors.ts'
import type { Speculation } from '../types.ts'

export const SPECULATION_USAGE = 'ngram[:k] | draft:<folder>'

/** Throws `runtime.invalid-request` for anything else. Whether the folder holds a model is found out when it is opened. */
export function parseSpeculation(text: string): Speculation {
  const [kind, rest] = text.includes(':') ? [text.slice(0, text.indexOf(':')), text.slice(text.indexOf(':') + 1)] : [text, null]
  if (kind === 'ngram' && (rest === null || /^\d{1,2}$/.test(rest))) {
    return rest === null ? { kind: 'ngram' } : { kind: 'ngram', tokens: Number(rest) }
  }
  if (kind === 'draft' && rest !== null && rest !== '') return { kind: 'draft', source: rest }
  throw new LatheError('runtime.invalid-request', `"${text}" is no way to speculate.`, `Use ${SPECULATION_USAGE}.`)
}
