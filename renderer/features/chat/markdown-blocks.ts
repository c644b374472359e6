/**
 * Cuts markdown into top-level blocks, so that those that are finished need not be parsed again while the last one grows.
 * Every cut is at a blank line outside of code, and only where what follows cannot belong to what came before.
 */

const FENCE = /^ {0,3}(`{3,}|~{3,})(.*)$/
const LIST_ITEM = /^ {0,3}(?:[-*+]|\d{1,9}[.)])(?:\s|$)/
/** Link and footnote definitions reach across blocks: a text that has any is kept whole. */
const DEFINITION = /^ {0,3}\[[^\]\n]+\]:/m

export function splitBlocks(markdown: string): readonly string[] {
  if (DEFINITION.test(markdown)) return [markdown]
  const blocks: string[] = []
  let block: string[] = []
  let fence: string | null = null
  let blankBefore = false
  for (const line of markdown.split('\n')) {
    const blank = line.trim() === ''
    if (fence === null && blankBefore && !blank && block.length > 0 && !continues(block, line)) {
      blocks.push(block.join('\n'))
      block = []
    }
    if (!blank || block.length > 0) block.push(line)
    fence = fenceAfter(fence, line)
    blankBefore = blank
  }
  if (block.length > 0) blocks.push(block.join('\n'))
  return blocks
}

/** Indented text after a blank line may be a list item's next paragraph; a list item after a list is the same list. */
function continues(block: readonly string[], line: string): boolean {
  return /^\s/.test(line) || (LIST_ITEM.test(block[0] ?? '') && LIST_ITEM.test(line))
}

/** The open fence after this line, or null. A fence closes with its own character, at least as many of them, and nothing else. */
function fenceAfter(open: string | null, line: string): string | null {
  const match = FENCE.exec(line)
  const marker = match?.[1]
  if (marker === undefined) return open
  const rest = match?.[2] ?? ''
  if (open === null) return marker.startsWith('`') && rest.includes('`') ? null : marker
  return marker[0] === open[0] && marker.length >= open.length && rest.trim() === '' ? null : open
}
