/**
 * Jinja templates of task files over one document, as lm-eval renders them: undefined names are errors, a trailing newline stays, values print as
 * Python prints them, and there is one extra filter, `regex_replace`. Runs in the interpreter that reaches nothing outside it, with a time limit.
 */
import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja'
import { LatheError } from '../../contract/errors.ts'
import { withTimeLimit } from '../../checkpoint/time-limit.ts'
import { pythonText } from './python-literal.ts'
import { pythonRegex } from './python-regex.ts'

export type Doc = Readonly<Record<string, unknown>>

/** A prompt template is a few lines; a loop that never ends would be seconds. */
const RENDER_LIMIT_MS = 2000
const OUTPUT = '__lathe_output'
const REPLACE = '__lathe_regex_replace'
const METHOD = '__lathe_method'

type Program = ReturnType<typeof parse>
interface Node {
  type: string
  [key: string]: unknown
}

interface Compiled {
  readonly program: Program
  /** Names that the document must have. */
  readonly names: readonly string[]
}

const compiled = new Map<string, Compiled>()
const MAX_COMPILED = 256

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string'
}

function identifier(name: string): Node {
  return { type: 'Identifier', value: name }
}

const STATEMENTS = new Set([
  'Set',
  'If',
  'For',
  'Macro',
  'CallStatement',
  'FilterStatement',
  'Break',
  'Continue',
  'Comment',
  'StringLiteral',
])

/** Rewrites in place: what is printed goes through OUTPUT, `x | regex_replace(…)` becomes a call. Collects names that are read and not bound. */
function prepare(node: unknown, free: Set<string>, bound: Set<string>): unknown {
  if (Array.isArray(node)) return node.map((child) => prepare(child, free, bound))
  if (node instanceof Map) {
    for (const [key, value] of node) node.set(prepare(key, free, bound), prepare(value, free, bound))
    return node
  }
  if (!isNode(node)) return node
  if (node.type === 'Identifier') {
    if (typeof node['value'] === 'string') free.add(node['value'])
    return node
  }
  if (node.type === 'Set') bindTarget(node['assignee'], bound)
  if (node.type === 'For') bindTarget(node['loopvar'], bound)
  if (node.type === 'Macro') {
    bindTarget(node['name'], bound)
    for (const parameter of (node['args'] as Node[] | undefined) ?? [])
      bindTarget(parameter.type === 'Identifier' ? parameter : parameter['key'], bound)
  }
  if (node.type === 'KeywordArgumentExpression') {
    node['value'] = prepare(node['value'], free, bound)
    return node
  }
  // `x is defined` and `x | default(…)` are the two places where a name may be missing.
  const filter = node['filter']
  const filterNode = isNode(filter) && filter.type === 'CallExpression' ? filter['callee'] : filter
  const filterName = isNode(filterNode) ? filterNode['value'] : null
  if (node.type === 'TestExpression' || (node.type === 'FilterExpression' && (filterName === 'default' || filterName === 'd'))) {
    if (isNode(node['operand']) && node['operand'].type !== 'Identifier') node['operand'] = prepare(node['operand'], free, bound)
    return node
  }
  if (node.type === 'FilterExpression') {
    node['operand'] = prepare(node['operand'], free, bound)
    if (isNode(filter) && filter.type === 'CallExpression') filter['args'] = prepare(filter['args'], free, bound)
    if (filterName !== 'regex_replace') return node
    const args = isNode(filter) && Array.isArray(filter['args']) ? (filter['args'] as unknown[]) : []
    return { type: 'CallExpression', callee: identifier(REPLACE), args: [node['operand'], ...args] }
  }
  if (
    node.type === 'CallExpression' &&
    isNode(node['callee']) &&
    node['callee'].type === 'MemberExpression' &&
    node['callee']['computed'] !== true
  ) {
    const property = node['callee']['property']
    const name = isNode(property) ? property['value'] : null
    if (typeof name === 'string' && Object.hasOwn(METHODS, name)) {
      const args = [node['callee']['object'], ...(Array.isArray(node['args']) ? (node['args'] as unknown[]) : [])]
      return {
        type: 'CallExpression',
        callee: identifier(METHOD),
        args: [{ type: 'StringLiteral', value: name }, ...args.map((arg) => prepare(arg, free, bound))],
      }
    }
  }
  if (node.type === 'MemberExpression') {
    node['object'] = prepare(node['object'], free, bound)
    if (node['computed'] === true) node['property'] = prepare(node['property'], free, bound)
    return node
  }
  for (const [key, child] of Object.entries(node)) {
    if (key === 'type' || key === 'assignee' || key === 'loopvar') continue
    if (node.type === 'Macro' && (key === 'name' || key === 'args')) continue
    const prepared = prepare(child, free, bound)
    const isBody = Array.isArray(prepared) && (key === 'body' || key === 'alternate' || key === 'defaultBlock')
    node[key] = isBody ? (prepared as unknown[]).map(printed) : prepared
  }
  return node
}

function printed(node: unknown): unknown {
  return isNode(node) && !STATEMENTS.has(node.type) ? { type: 'CallExpression', callee: identifier(OUTPUT), args: [node] } : node
}

function bindTarget(node: unknown, bound: Set<string>): void {
  if (!isNode(node)) return
  if (typeof node['value'] === 'string') bound.add(node['value'])
  else if (Array.isArray(node['value'])) for (const part of node['value'] as unknown[]) bindTarget(part, bound)
}

/** Methods of Python's strings and lists that task files use and the interpreter lacks. */
const METHODS: Readonly<Record<string, (self: unknown, ...args: readonly unknown[]) => unknown>> = {
  index: (self, item) => {
    const at = typeof self === 'string' ? self.indexOf(String(item)) : Array.isArray(self) ? self.indexOf(item) : -1
    if (at < 0) throw new Error(`${pythonText(item)} is not in ${pythonText(self)}`)
    return typeof self === 'string' ? Array.from(self.slice(0, at)).length : at
  },
  find: (self, item) => String(self).indexOf(String(item)),
  count: (self, item) =>
    Array.isArray(self) ? self.filter((entry) => entry === item).length : String(self).split(String(item)).length - 1,
  rsplit: (self, separator, limit) => {
    const parts = separator === undefined || separator === null ? String(self).trim().split(/\s+/) : String(self).split(String(separator))
    const most = typeof limit === 'number' && limit >= 0 ? limit : Infinity
    if (parts.length - 1 <= most) return parts
    const cut = parts.length - most
    return [parts.slice(0, cut).join(typeof separator === 'string' ? separator : ' '), ...parts.slice(cut)]
  },
  join: (self, list) => (Array.isArray(list) ? list.map(pythonText).join(String(self)) : String(list)),
  removeprefix: (self, prefix) => (String(self).startsWith(String(prefix)) ? String(self).slice(String(prefix).length) : self),
  removesuffix: (self, suffix) =>
    suffix !== '' && String(self).endsWith(String(suffix)) ? String(self).slice(0, -String(suffix).length) : self,
  isdigit: (self) => /^\p{Nd}+$/u.test(String(self)),
  zfill: (self, width) => String(self).padStart(Number(width), '0'),
}

const GLOBALS: Readonly<Record<string, unknown>> = {
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  range: (...args: unknown[]) => {
    const [first = 0, second, step = 1] = args.filter((value) => typeof value === 'number')
    const [start, stop] = second === undefined ? [0, first] : [first, second]
    const count = Math.max(0, Math.ceil((stop - start) / step))
    if (!(count <= 10_000)) throw new Error(`range() of ${count} numbers`)
    return Array.from({ length: count }, (_, i) => start + i * step)
  },
  [OUTPUT]: (value: unknown) => {
    if (value === undefined) throw new Error('a value is undefined')
    return pythonText(plain(value))
  },
  [METHOD]: (name: unknown, self: unknown, ...args: unknown[]) => {
    if (self === undefined) throw new Error(`.${String(name)}() of a value that is undefined`)
    return METHODS[String(name)]?.(plain(self), ...args.map(plain))
  },
  [REPLACE]: (value: unknown, pattern: unknown, replacement: unknown = '', count: unknown = 0) => {
    let left = typeof count === 'number' && count > 0 ? count : Infinity
    const template = String(replacement)
    return String(value).replaceAll(pythonRegex(String(pattern)), (...match: unknown[]) => {
      if (left-- <= 0) return String(match[0])
      return template.replaceAll(/\\(?:g<(\d+)>|(\d))/g, (_, long: string | undefined, short: string | undefined) =>
        String(match[Number(long ?? short)] ?? ''),
      )
    })
  },
}

/** The interpreter hands lists over as lists of its own values. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((entry: unknown) => plain(isNode(entry) && 'value' in entry ? entry['value'] : entry))
  if (value instanceof Map)
    return Object.fromEntries(
      Array.from(value, ([key, entry]: [unknown, unknown]) => [
        String(key),
        plain(isNode(entry) && 'value' in entry ? entry['value'] : entry),
      ]),
    )
  return value
}

const ALWAYS_KNOWN = new Set([...Object.keys(GLOBALS), 'namespace', 'loop', 'caller', 'varargs', 'kwargs'])

function compile(template: string): Compiled {
  const known = compiled.get(template)
  if (known !== undefined) return known
  // The lexer drops one newline at the end; lm-eval keeps it.
  const program = parse(tokenize(template.endsWith('\n') ? `${template}\n` : template, {}))
  const free = new Set<string>()
  const bound = new Set<string>()
  prepare(program, free, bound)
  const result = { program, names: [...free].filter((name) => !bound.has(name) && !ALWAYS_KNOWN.has(name)) }
  if (compiled.size >= MAX_COMPILED) compiled.clear()
  compiled.set(template, result)
  return result
}

/** Throws `evaluate.invalid-data` naming what is undefined, wrong or too slow. */
export function renderTemplate(template: string, doc: Doc): string {
  const fail = (what: string, cause?: unknown): LatheError =>
    new LatheError(
      'evaluate.invalid-data',
      `The template ${JSON.stringify(template.length > 120 ? `${template.slice(0, 117)}…` : template)} ${what}.`,
      `The document has the fields ${Object.keys(doc).slice(0, 20).join(', ') || '(none)'}.`,
      { cause },
    )
  if (!/\{[{%#]/.test(template)) return template
  try {
    const { program, names } = compile(template)
    const missing = names.find((name) => !Object.hasOwn(doc, name))
    if (missing !== undefined) throw fail(`names "${missing}", which the document doesn't have`)
    const environment = new Environment()
    for (const [name, value] of Object.entries({ ...doc, ...GLOBALS })) environment.set(name, value)
    return withTimeLimit(
      RENDER_LIMIT_MS,
      () => String(new Interpreter(environment).run(program).value),
      () => fail(`takes over ${RENDER_LIMIT_MS / 1000} seconds`),
    )
  } catch (error) {
    if (error instanceof LatheError) throw error
    throw fail(`can't be rendered: ${error instanceof Error ? error.message.slice(0, 200) : String(error)}`, error)
  }
}
