/**
 * How the supported families write tool calls (specs/runtime.md §7): told from the chat template, which is what the model was trained with. From
 * a format follow the markup to look for, and the form to force when a call is required.
 */
import type { Form } from '../../runtime/structured/grammar-source.ts'
import type { Tool, ToolUse } from './tool-request.ts'

export type ToolFormat =
  /** Qwen, Hermes: <tool_call>{"name": …, "arguments": …}</tool_call>, any number of them. */
  | 'hermes'
  /** Mistral to v7: [TOOL_CALLS] [{"name": …, "arguments": …}, …]. */
  | 'mistral-list'
  /** Mistral from v11: [TOOL_CALLS]name[ARGS]{…}, repeated. */
  | 'mistral-args'
  /** Llama 3: {"name": …, "parameters": …} as the whole answer. */
  | 'llama3'
  /** Phi-4-mini, Granite 3: <|tool_call|>{"name": …, "arguments": …}<|/tool_call|>, or a list of them, the end left out by some. */
  | 'phi'

export const MISTRAL_MARK = '[TOOL_CALLS]'
export const MISTRAL_ARGUMENTS = '[ARGS]'
export const HERMES_OPEN = '<tool_call>'
export const HERMES_CLOSE = '</tool_call>'
export const LLAMA_MARK = '<|python_tag|>'
const LLAMA_HEADER = '<|start_header_id|>'
/** Between the name and the arguments, in Mistral's v11 only. */
export const MISTRAL_CALL_ID = '[CALL_ID]'
export const PHI_OPEN = '<|tool_call|>'
export const PHI_CLOSE = '<|/tool_call|>'
/** Families that put something else than JSON between Hermes' tags: Qwen3-Coder, GLM. */
const OTHER_SYNTAX = ['<function=', '<arg_key>']

/** Markup that may be special tokens of a vocabulary; they must neither be hidden from the answer nor forbidden in it. */
export const TOOL_MARKUP = [MISTRAL_MARK, MISTRAL_ARGUMENTS, MISTRAL_CALL_ID, HERMES_OPEN, HERMES_CLOSE, LLAMA_MARK, PHI_OPEN, PHI_CLOSE]

/** null = the template shows no tools, or writes their calls in a way that is not understood here. */
export function toolFormatOf(template: string | null): ToolFormat | null {
  if (template === null || !/\btools\b/.test(template)) return null
  if (OTHER_SYNTAX.some((syntax) => template.includes(syntax))) return null
  if (template.includes(HERMES_OPEN)) return 'hermes'
  if (template.includes(MISTRAL_MARK)) return template.includes(MISTRAL_ARGUMENTS) ? 'mistral-args' : 'mistral-list'
  if (template.includes(PHI_OPEN)) return 'phi'
  // Llama 3's templates say so in their instructions; others with the same words have markup of their own around the object.
  const llama = template.includes(LLAMA_HEADER) && template.includes('"parameters"') && template.includes('"name"')
  if (llama || template.includes(LLAMA_MARK)) return 'llama3'
  return null
}

/** The mark with which a call begins; where there is none, that of the variant that has one. */
export const CALL_MARKS: Readonly<Record<ToolFormat, string>> = {
  hermes: HERMES_OPEN,
  phi: PHI_OPEN,
  'mistral-list': MISTRAL_MARK,
  'mistral-args': MISTRAL_MARK,
  llama3: LLAMA_MARK,
}

/** Calls as this format writes them, and nothing else: what a required or a named choice binds the answer to. */
export function toolForm(format: ToolFormat, use: ToolUse): Form {
  const call = anyOf(use.tools.map((tool) => callForm(format, tool)))
  const further = (separator: string): Form => ({
    kind: 'repeated',
    part: sequence([text(separator), call]),
    least: 0,
    most: use.parallel ? null : 0,
  })
  switch (format) {
    case 'hermes':
    case 'mistral-args':
    case 'phi':
      return sequence([call, further(format === 'hermes' ? '\n' : '')])
    case 'mistral-list':
      return sequence([text(`${MISTRAL_MARK} [`), call, further(', '), text(']')])
    case 'llama3':
      return call
  }
}

function callForm(format: ToolFormat, { name, parameters }: Tool): Form {
  const values: Form = { kind: 'json', schema: parameters ?? { type: 'object' } }
  const object = (key: string): Form => sequence([text(`{"name": ${JSON.stringify(name)}, "${key}": `), values, text('}')])
  switch (format) {
    case 'hermes':
      return sequence([text(`${HERMES_OPEN}\n`), object('arguments'), text(`\n${HERMES_CLOSE}`)])
    case 'mistral-list':
      return object('arguments')
    case 'mistral-args':
      return sequence([text(`${MISTRAL_MARK}${name}${MISTRAL_ARGUMENTS}`), values])
    case 'llama3':
      return object('parameters')
    case 'phi':
      return sequence([text(PHI_OPEN), object('arguments'), text(PHI_CLOSE)])
  }
}

function text(value: string): Form {
  return { kind: 'text', text: value }
}

function sequence(parts: readonly Form[]): Form {
  return { kind: 'sequence', parts }
}

function anyOf(parts: readonly Form[]): Form {
  return { kind: 'any-of', parts }
}
