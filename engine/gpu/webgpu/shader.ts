/**
 * WGSL sources and the little that WGSL lacks: named constants from the host, text chosen by a constant, text repeated a constant number of
 * times (so that register tiles are plain variables and nothing depends on a driver's unroller), and shared snippets.
 *
 *   //#include name              the text of name.wgsl
 *   //#if NAME  //#else  //#end  keeps one branch; `!NAME` negates; true means present and not 0
 *   //#repeat i NAME … //#end    repeats the body with {i} = 0 … NAME−1; i is one letter, NAME a constant or a number
 *   {NAME}  {2*i+1}  {i*BITS/32} whole-number arithmetic over constants and repeat variables: + - * / % and parentheses
 *
 * A kernel with a constant SUBGROUP uses subgroups of that size, one with SUBGROUP_LANES matrix units unless they are EMULATED. Every constant is also declared in the module (`const NAME: u32 = …` or f32), so plain expressions use it directly.
 */
import { readFileSync } from 'node:fs'

/** Integers become u32; write `f32(…)` values with `{ float: x }`. */
export type ShaderConstant = number | boolean | { readonly float: number }
export type ShaderConstants = Readonly<Record<string, ShaderConstant>>

/** What modules with matrix units enable. */
const MATRIX_EXTENSIONS = 'enable f16, subgroups, chromium_experimental_subgroup_matrix;'

const sources = new Map<string, string>()

function load(name: string): string {
  let text = sources.get(name)
  if (text === undefined) {
    text = readFileSync(new URL(`./kernels/${name}.wgsl`, import.meta.url), 'utf8')
    sources.set(name, text)
  }
  return text
}

/** The complete module text of kernel `name` for these constants. */
export function shaderSource(name: string, constants: ShaderConstants): string {
  const declarations = Object.entries(constants).map(([key, value]) => {
    if (typeof value === 'object') return `const ${key}: f32 = ${floatLiteral(value.float)};`
    return `const ${key}: u32 = ${Number(value)}u;`
  })
  const matrixUnits = constants['SUBGROUP_LANES'] !== undefined && constants['EMULATED'] === undefined
  const extensions = matrixUnits ? [MATRIX_EXTENSIONS] : constants['SUBGROUP'] === undefined ? [] : ['enable subgroups;']
  return [...extensions, 'requires immediate_address_space;', ...declarations, expandShader(load(name), constants, name)].join('\n')
}

/** The text with its directives carried out; `where` names the file in errors. */
export function expandShader(text: string, constants: ShaderConstants, where: string): string {
  return expand(text.split('\n'), constants, where).join('\n')
}

function floatLiteral(value: number): string {
  const text = String(value)
  return /[.e]/.test(text) ? `${text}f` : `${text}.0f`
}

function valueOf(name: string, constants: ShaderConstants, where: string): number {
  if (/^\d+$/.test(name)) return Number(name)
  const value = constants[name]
  if (value === undefined) throw new Error(`${where}.wgsl: no constant ${name}`)
  return typeof value === 'object' ? value.float : Number(value)
}

function expand(lines: readonly string[], constants: ShaderConstants, where: string): string[] {
  const out: string[] = []
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i] ?? ''
    const directive = /^\s*\/\/#(\w+)\s*(.*)$/.exec(line)
    if (directive === null) {
      out.push(line.replace(EXPRESSION, (whole, text: string) => (/[a-z]/.test(text) ? whole : String(evaluate(text, constants, where)))))
      continue
    }
    const [, verb, argument = ''] = directive
    if (verb === 'include') {
      out.push(...expand(load(argument.trim()).split('\n'), constants, argument.trim()))
      continue
    }
    const block = takeBlock(lines, i, where)
    i = block.end
    if (verb === 'if') {
      const negated = argument.trim().startsWith('!')
      const name = argument.trim().replace(/^!/, '')
      const value = constants[name]
      const present = value !== undefined && value !== 0 && value !== false
      out.push(...expand(present !== negated ? block.body : block.otherwise, constants, where))
    } else if (verb === 'repeat') {
      const [variable = '', count = ''] = argument.trim().split(/\s+/)
      for (let n = 0; n < valueOf(count, constants, where); n++) {
        const body = block.body.map((text) =>
          text.replace(EXPRESSION, (_, inner: string) => `{${inner.replaceAll(new RegExp(`\\b${variable}\\b`, 'g'), String(n))}}`),
        )
        out.push(...expand(body, constants, where))
      }
    } else {
      throw new Error(`${where}.wgsl:${i + 1}: unknown directive ${verb}`)
    }
  }
  return out
}

/** No spaces, so that no block of WGSL on one line is taken for one. */
const EXPRESSION = /\{([A-Za-z0-9_+*/%()-]+)\}/g

/** Whole-number arithmetic; `/` rounds down. */
function evaluate(text: string, constants: ShaderConstants, where: string): number {
  const tokens = text.match(/\w+|[+*/%()-]/g) ?? []
  let at = 0
  const product = (): number => {
    let value = term()
    for (let operator = tokens[at]; operator !== undefined && '*/%'.includes(operator); operator = tokens[at]) {
      at++
      const right = term()
      value = operator === '*' ? value * right : operator === '/' ? Math.floor(value / right) : value % right
    }
    return value
  }
  const sum = (): number => {
    let value = product()
    for (let operator = tokens[at]; operator === '+' || operator === '-'; operator = tokens[at]) {
      at++
      value += operator === '+' ? product() : -product()
    }
    return value
  }
  const term = (): number => {
    const token = tokens[at++] ?? ''
    if (token !== '(') return valueOf(token, constants, where)
    const value = sum()
    at++
    return value
  }
  return sum()
}

function takeBlock(lines: readonly string[], start: number, where: string): { body: string[]; otherwise: string[]; end: number } {
  const body: string[] = []
  const otherwise: string[] = []
  let target = body
  let depth = 1
  for (let i = start + 1; i < lines.length; i++) {
    const line = lines[i] ?? ''
    if (/^\s*\/\/#(if|repeat)\b/.test(line)) depth++
    if (/^\s*\/\/#end\b/.test(line) && --depth === 0) return { body, otherwise, end: i }
    if (/^\s*\/\/#else\b/.test(line) && depth === 1) {
      target = otherwise
      continue
    }
    target.push(line)
  }
  throw new Error(`${where}.wgsl:${start + 1}: block without //#end`)
}
