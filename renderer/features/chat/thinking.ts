/** What a thinking model thought, apart from what it answers: its tags stand at the beginning of the text (specs/runtime.md §7). */

export interface Thinking {
  /** null = it did not think. */
  readonly thought: string | null
  readonly answer: string
  /** The thinking has not ended yet. */
  readonly open: boolean
}

const FAMILIES = [
  ['<think>', '</think>'],
  ['[THINK]', '[/THINK]'],
] as const

export function splitThinking(text: string): Thinking {
  const start = text.trimStart()
  for (const [open, close] of FAMILIES) {
    if (!start.startsWith(open)) continue
    const inner = start.slice(open.length)
    const end = inner.indexOf(close)
    if (end === -1) return { thought: inner.trim(), answer: '', open: true }
    const thought = inner.slice(0, end).trim()
    return { thought: thought === '' ? null : thought, answer: inner.slice(end + close.length).trimStart(), open: false }
  }
  return { thought: null, answer: text, open: false }
}
