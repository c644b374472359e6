/**
 * The ways in which clients ask for structured output: OpenAI's response_format, vLLM's structured_outputs and its older guided_… fields, SGLang's
 * own names for them. What a form says is checked where it is compiled.
 */
import { z } from 'zod'
import type { StructuredOutput } from '../runtime/structured/grammar-source.ts'
import { badRequest, notImplemented, optional, parseBody } from './parse-body.ts'

export const ResponseFormatSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('text') }),
  z.object({ type: z.literal('json_object') }),
  z.object({
    type: z.literal('json_schema'),
    json_schema: z.object({ name: z.string(), schema: z.unknown(), strict: optional(z.boolean()) }),
  }),
  z.looseObject({ type: z.literal('structural_tag') }),
])

const StructuredOutputsSchema = z.object({
  json: optional(z.unknown()),
  json_object: optional(z.boolean()),
  regex: optional(z.string()),
  choice: optional(z.array(z.string())),
  grammar: optional(z.string()),
  structural_tag: optional(z.unknown()),
  whitespace_pattern: optional(z.string()),
  disable_any_whitespace: optional(z.boolean()),
})

interface GuidedFields {
  readonly structured_outputs?: unknown
  readonly guided_json?: unknown
  readonly guided_regex?: string | undefined
  readonly guided_choice?: readonly string[] | undefined
  readonly guided_grammar?: string | undefined
  readonly guided_whitespace_pattern?: string | undefined
  readonly structural_tag?: unknown
  readonly regex?: string | undefined
  readonly ebnf?: string | undefined
}

export function responseFormat(format: z.output<typeof ResponseFormatSchema> | undefined): StructuredOutput | null {
  switch (format?.type) {
    case undefined:
    case 'text':
      return null
    case 'json_object':
      return { kind: 'json' }
    case 'json_schema':
      return { kind: 'json-schema', schema: format.json_schema.schema ?? true }
    case 'structural_tag':
      return { kind: 'structural-tag', tag: format, param: 'response_format' }
  }
}

const WHITESPACE = 'Whitespace in JSON as you say'

/** At most one of all of them. Throws ApiError 400. */
export function structuredOutputs(body: GuidedFields, format: StructuredOutput | null): StructuredOutput | null {
  const wishes: StructuredOutput[] = format === null ? [] : [format]
  if (body.structured_outputs !== undefined) {
    const fields = parseBody(z.object({ structured_outputs: StructuredOutputsSchema }), body).structured_outputs
    if (fields.whitespace_pattern !== undefined) throw notImplemented('structured_outputs.whitespace_pattern', WHITESPACE)
    if (fields.disable_any_whitespace === true) throw notImplemented('structured_outputs.disable_any_whitespace', WHITESPACE)
    if (fields.json !== undefined) wishes.push(jsonSchema(fields.json, 'structured_outputs.json'))
    if (fields.json_object === true) wishes.push({ kind: 'json' })
    if (fields.regex !== undefined) wishes.push({ kind: 'regex', pattern: fields.regex })
    if (fields.choice !== undefined) wishes.push({ kind: 'choice', choices: fields.choice })
    if (fields.grammar !== undefined) wishes.push({ kind: 'grammar', ebnf: fields.grammar })
    if (fields.structural_tag !== undefined) wishes.push(structuralTag(fields.structural_tag, 'structured_outputs.structural_tag'))
    if (wishes.length === (format === null ? 0 : 1))
      throw badRequest(
        'structured_outputs',
        '"structured_outputs" names no constraint: give json, json_object, regex, choice, grammar or structural_tag.',
      )
  }
  if (body.guided_whitespace_pattern !== undefined) throw notImplemented('guided_whitespace_pattern', WHITESPACE)
  if (body.guided_json !== undefined) wishes.push(jsonSchema(body.guided_json, 'guided_json'))
  if (body.guided_regex !== undefined) wishes.push({ kind: 'regex', pattern: body.guided_regex })
  if (body.guided_choice !== undefined) wishes.push({ kind: 'choice', choices: body.guided_choice })
  if (body.guided_grammar !== undefined) wishes.push({ kind: 'grammar', ebnf: body.guided_grammar })
  if (body.structural_tag !== undefined) wishes.push(structuralTag(body.structural_tag, 'structural_tag'))
  if (body.regex !== undefined) wishes.push({ kind: 'regex', pattern: body.regex })
  if (body.ebnf !== undefined) wishes.push({ kind: 'grammar', ebnf: body.ebnf })
  if (wishes.length > 1) throw badRequest('structured_outputs', `An answer can have one form, not ${wishes.length}.`)
  return wishes[0] ?? null
}

/** vLLM takes a schema as an object or as its text. */
function jsonSchema(value: unknown, param: string): StructuredOutput {
  return { kind: 'json-schema', schema: fromText(value, param, 'schema') }
}

/** And so it takes structural tags. */
function structuralTag(value: unknown, param: string): StructuredOutput {
  return { kind: 'structural-tag', tag: fromText(value, param, 'structural tag'), param }
}

function fromText(value: unknown, param: string, what: string): unknown {
  if (typeof value !== 'string') return value
  try {
    return JSON.parse(value) as unknown
  } catch (cause) {
    throw badRequest(param, `The ${what} is not JSON: ${cause instanceof Error ? cause.message : String(cause)}`)
  }
}
