/** Questions about a JSON schema itself: what a reference points to, and whether alternatives exclude each other. */

export type Schema = Readonly<Record<string, unknown>>

/** References to references; a longer chain is a circle. */
const MAX_HOPS = 32

export function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** What "#/…" points to in the document, or undefined. */
export function targetOf(root: unknown, reference: unknown): unknown {
  if (typeof reference !== 'string' || !/^#(?:\/|$)/.test(reference)) return undefined
  let target: unknown = root
  for (const step of reference.split('/').slice(1)) {
    const name = step.replaceAll('~1', '/').replaceAll('~0', '~')
    if (Array.isArray(target)) target = (target as unknown[])[Number(name)]
    else target = isSchema(target) && Object.hasOwn(target, name) ? target[name] : undefined
  }
  return target === true || isSchema(target) ? target : undefined
}

/** Whether no value can fit two of the schemas: their types or constants differ, or those of a property that both require. */
export function areDisjoint(root: unknown, schemas: readonly unknown[]): boolean {
  const resolved = schemas.map((schema) => {
    let target = schema
    for (let hops = 0; isSchema(target) && target['$ref'] !== undefined && hops < MAX_HOPS; hops++) target = targetOf(root, target['$ref'])
    return target
  })
  return resolved.every((schema, index) => resolved.slice(index + 1).every((other) => areApart(schema, other)))
}

function areApart(a: unknown, b: unknown): boolean {
  if (!isSchema(a) || !isSchema(b)) return false
  const [types, otherTypes] = [typesOf(a), typesOf(b)]
  if (types !== null && otherTypes !== null && !types.some((type) => otherTypes.includes(type))) return true
  const [values, others] = [constantsOf(a), constantsOf(b)]
  if (values !== null && others !== null && !overlap(values, others)) return true
  return tagsOf(a).some(([name, tags]) => tagsOf(b).some(([other, otherTags]) => name === other && !overlap(tags, otherTags)))
}

function typesOf(schema: Schema): readonly string[] | null {
  const values = constantsOf(schema)
  const list: unknown = schema['type'] ?? values?.map((value) => (value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value))
  if (list === undefined) return null
  // Every integer is a number.
  return (Array.isArray(list) ? (list as unknown[]) : [list]).map((type) => (type === 'integer' ? 'number' : String(type)))
}

function constantsOf(schema: Schema): readonly unknown[] | null {
  if (schema['const'] !== undefined) return [schema['const']]
  return Array.isArray(schema['enum']) ? (schema['enum'] as unknown[]) : null
}

/** Required properties with a fixed set of values. */
function tagsOf(schema: Schema): readonly (readonly [string, readonly unknown[]])[] {
  const { properties, required } = schema
  if (!isSchema(properties) || !Array.isArray(required)) return []
  return (required as unknown[]).flatMap((name) => {
    const property = typeof name === 'string' ? properties[name] : undefined
    const values = isSchema(property) ? constantsOf(property) : null
    return typeof name === 'string' && values !== null ? [[name, values] as const] : []
  })
}

function overlap(a: readonly unknown[], b: readonly unknown[]): boolean {
  const texts = new Set(a.map((value) => JSON.stringify(value)))
  return b.some((value) => texts.has(JSON.stringify(value)))
}
