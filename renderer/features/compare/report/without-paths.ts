/** Data to give away: absolute paths keep their last name only, and long lists of tensors become their number. */

const ABSOLUTE = /^(?:file:\/\/)?(?:[/\\]|[a-z]:[/\\])/i
/** run.json lists every tensor with its hash; beyond this many entries a list says nothing to a reader. */
const MOST_ENTRIES = 200

export function withoutPaths(value: unknown): unknown {
  if (typeof value === 'string') return ABSOLUTE.test(value) ? `…/${value.split(/[/\\]/).findLast((part) => part !== '') ?? ''}` : value
  if (Array.isArray(value)) return value.length > MOST_ENTRIES ? `${value.length} entries` : value.map(withoutPaths)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value)
  if (entries.length > MOST_ENTRIES) return `${entries.length} entries`
  return Object.fromEntries(entries.map(([key, item]) => [key, withoutPaths(item)]))
}
