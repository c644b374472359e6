/**
 * Which line of a recipe an error is about: the YAML parser's own place, or that of the key that the reader of recipes named in `data.place`.
 * Knows nothing of what keys mean.
 */
import { LineCounter, isMap, parseDocument } from 'yaml'
import type { Node, Pair } from 'yaml'
import type { LatheError } from '../../contract/errors.ts'
import { RECIPE_DOCUMENT } from '../python-tags.ts'

/** 1-based; null where the error belongs to no line. */
export function lineOf(text: string, error: LatheError): number | null {
  const lines = new LineCounter()
  const document = parseDocument(text, { ...RECIPE_DOCUMENT, lineCounter: lines })
  const problem = document.errors[0] ?? document.warnings[0]
  if (problem !== undefined) return problem.linePos?.[0].line ?? null
  const place = error.data?.['place']
  if (typeof place !== 'string') return null
  const path = place.replace(/^The recipe\.?/, '')
  const found = path === '' ? null : (find(document.contents, path) ?? nameOf(document.contents, path))
  return found === null ? null : lines.linePos(found).line
}

/** Offset of the key that a place ends with. Stages around modifiers are not part of a place, and keys may hold dots themselves. */
function find(node: unknown, path: string): number | null {
  if (!isMap(node)) return null
  let deepest: number | null = null
  for (const pair of node.items as Pair<Node, Node | null>[]) {
    const key = keyOf(pair)
    if (key === null) continue
    if (path === key) return offsetOf(pair)
    if (path.startsWith(`${key}.`)) return find(pair.value, path.slice(key.length + 1)) ?? offsetOf(pair)
    if (/_stage$|modifiers$/.test(key)) deepest ??= find(pair.value, path)
  }
  return deepest
}

/** A place that is only the last part of a path, such as an unknown modifier: the first key of that name at any depth. */
function nameOf(node: unknown, path: string): number | null {
  const name = path.slice(path.lastIndexOf('.') + 1)
  if (!isMap(node)) return null
  for (const pair of node.items as Pair<Node, Node | null>[]) {
    if (keyOf(pair) === name) return offsetOf(pair)
    const inside = nameOf(pair.value, name)
    if (inside !== null) return inside
  }
  return null
}

function keyOf(pair: Pair<Node, Node | null>): string | null {
  const key: unknown = pair.key
  return typeof key === 'object' && key !== null && 'value' in key ? String(key.value) : null
}

function offsetOf(pair: Pair<Node, Node | null>): number | null {
  return pair.key.range?.[0] ?? null
}
