/**
 * Free text up to a marker, as a grammar: an Aho–Corasick automaton (Aho and Corasick 1975, "Efficient string matching") with one rule per state. A
 * marker may be forbidden, or something else comes after it; whichever marker is complete first counts. Knows nothing of tags.
 *
 * Narrower than the words in one case: the grammar engine can't leave single characters beyond ASCII out of a set, so where a marker goes on with
 * one, text that has begun like the marker goes on with that one or with ASCII.
 */
import { EMPTY, LAST_CODE_POINT, anyOf, characterSet, complement, intersect, literal, sequence } from './ebnf.ts'
import type { Ebnf, GrammarRules, Range } from './ebnf.ts'

/** What comes after a marker; null = the marker may not come. */
export type Markers = ReadonlyMap<string, Ebnf | null>

/** A state: the longest end of the text so far that is the beginning of a marker. */
interface Node {
  readonly children: Map<string, Node>
  /** The longest proper end of this state's text that is a state too; null = the root, which has none. */
  fallback: Node | null
  /** The marker that is complete here; nothing follows in the automaton then. */
  marker: string | null
  /** Empty until it is known that the state can be reached. */
  rule: Ebnf
}

const ASCII: readonly Range[] = [[0, 0x7f]]
const ANY: readonly Range[] = [[0, LAST_CODE_POINT]]

/** `mayEnd`: the text may stop anywhere, also in the middle of a marker. `markers` gets the name of the rule that starts it over. */
export function freeText(rules: GrammarRules, mayEnd: boolean, markersFrom: (again: Ebnf) => Markers): Ebnf {
  const root: Node = { ...newNode(), rule: rules.reserve() }
  const markers = markersFrom(root.rule)
  const nodes = automaton(rules, root, [...markers.keys()])
  for (const node of nodes) {
    const next = transitions(node)
    const taken = [...next.keys()].map((character): Range => [codeOf(character), codeOf(character)])
    const others = intersect(complement(taken), taken.some(([code]) => code > 0x7f) ? ASCII : ANY)
    const byTarget = Map.groupBy(next, ([, target]) => target)
    const parts = [...byTarget].flatMap(([target, pairs]): Ebnf[] => {
      const character = anyOf(pairs.map(([text]) => literal(text)))
      if (target.marker === null) return [sequence([character, target.rule])]
      const after = markers.get(target.marker)
      return after === null || after === undefined ? [] : [sequence([character, after])]
    })
    rules.define(node.rule, [...(mayEnd ? [EMPTY] : []), sequence([characterSet(others), root.rule]), ...parts].join(' | '))
  }
  return root.rule
}

/** A marker in free text can't begin with a character that no set can leave out. */
export function canBeLookedFor(marker: string): boolean {
  return codeOf(marker) <= 0x7f
}

/** All states that can be reached and hold no complete marker, breadth first. */
function automaton(rules: GrammarRules, root: Node, markers: readonly string[]): readonly Node[] {
  for (const marker of markers) {
    let node = root
    for (const character of marker) {
      const next: Node = node.children.get(character) ?? newNode()
      node.children.set(character, next)
      node = next
    }
    node.marker = marker
  }
  const nodes = [root]
  for (const node of nodes) {
    for (const [character, child] of node.children) {
      child.fallback = node.fallback === null ? root : follow(node.fallback, character, root)
      child.marker ??= child.fallback.marker
      if (child.marker !== null) continue
      child.rule = rules.reserve()
      nodes.push(child)
    }
  }
  return nodes
}

function newNode(): Node {
  return { children: new Map(), fallback: null, marker: null, rule: '' }
}

/** Where each character leads that does not lead back to the root. */
function transitions(node: Node): Map<string, Node> {
  const ends: Node[] = []
  for (let at: Node | null = node; at !== null; at = at.fallback) ends.push(at)
  const next = new Map<string, Node>()
  // Longer ends last: theirs is where a character leads.
  for (const end of ends.toReversed()) for (const [character, child] of end.children) next.set(character, child)
  return next
}

/** Where one character leads: along a marker the fallbacks that are walked are no more than its characters, however they repeat. */
function follow(from: Node, character: string, root: Node): Node {
  for (let at: Node | null = from; at !== null; at = at.fallback) {
    const next = at.children.get(character)
    if (next !== undefined) return next
  }
  return root
}

function codeOf(character: string): number {
  return character.codePointAt(0) ?? 0
}
