/**
 * Two texts word by word: what both say, what only one says, and where they part for the first time. Longest common subsequence over words and
 * the spaces between them; what both begin and end with is taken off first, which is most of it where greedy answers part late.
 */

export interface DiffPiece {
  readonly kind: 'same' | 'left' | 'right'
  readonly text: string
}

export interface WordDiff {
  readonly pieces: readonly DiffPiece[]
  /** Words that both begin with; null when the texts are equal. */
  readonly sharedWords: number | null
}

/** Cells of the table; beyond this the middle is shown as replaced whole rather than kept waiting for. */
const MOST_CELLS = 4_000_000

function wordsOf(text: string): string[] {
  return text.match(/\s+|[\p{L}\p{N}_'’]+|[^\s\p{L}\p{N}_'’]/gu) ?? []
}

export function wordDiff(left: string, right: string): WordDiff {
  if (left === right) return { pieces: left === '' ? [] : [{ kind: 'same', text: left }], sharedWords: null }
  const [a, b] = [wordsOf(left), wordsOf(right)]
  const shortest = Math.min(a.length, b.length)
  let start = 0
  while (start < shortest && a[start] === b[start]) start += 1
  let end = 0
  while (end < shortest - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1
  const middle = between(a.slice(start, a.length - end), b.slice(start, b.length - end))
  const pieces = [piece('same', a.slice(0, start)), ...middle, piece('same', a.slice(a.length - end))]
  return {
    pieces: joined(pieces.filter((part) => part.text !== '')),
    sharedWords: a.slice(0, start).filter((word) => word.trim() !== '').length,
  }
}

function piece(kind: DiffPiece['kind'], words: readonly string[]): DiffPiece {
  return { kind, text: words.join('') }
}

function between(a: readonly string[], b: readonly string[]): DiffPiece[] {
  if (a.length * b.length > MOST_CELLS || a.length === 0 || b.length === 0) return [piece('left', a), piece('right', b)]
  const width = b.length + 1
  // length of the longest common subsequence of what is left from (i, j) on
  const lengths = new Uint32Array((a.length + 1) * width)
  const at = (i: number, j: number): number => lengths[i * width + j] ?? 0
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--)
      lengths[i * width + j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1))
  }
  const pieces: DiffPiece[] = []
  let [i, j] = [0, 0]
  while (i < a.length && j < b.length) {
    if (a[i] === b[j]) {
      pieces.push({ kind: 'same', text: a[i] ?? '' })
      i += 1
      j += 1
    } else if (at(i + 1, j) >= at(i, j + 1)) {
      pieces.push({ kind: 'left', text: a[i] ?? '' })
      i += 1
    } else {
      pieces.push({ kind: 'right', text: b[j] ?? '' })
      j += 1
    }
  }
  return [...pieces, piece('left', a.slice(i)), piece('right', b.slice(j))]
}

/** Neighbours of one kind become one piece. */
function joined(pieces: readonly DiffPiece[]): DiffPiece[] {
  const result: DiffPiece[] = []
  for (const next of pieces) {
    const last = result.at(-1)
    if (last?.kind === next.kind) result[result.length - 1] = { kind: next.kind, text: last.text + next.text }
    else result.push(next)
  }
  return result
}
