/** Which tools an answer may call: OpenAI's `tools`, `tool_choice` and `parallel_tool_calls`, checked. */
import { z } from 'zod'
import { badRequest, optional } from '../parse-body.ts'

/** A tool's name goes into grammars and markup as it is. */
const NAME = z.string().regex(/^[\w.-]{1,64}$/, 'letters, digits and . _ - only, at most 64')

export const ToolSchema = z.object({
  type: z.literal('function'),
  function: z.object({
    name: NAME,
    description: optional(z.string()),
    parameters: optional(z.record(z.string(), z.unknown())),
    strict: optional(z.boolean()),
  }),
})

export const ToolChoiceSchema = z.union([
  z.enum(['none', 'auto', 'required']),
  z.object({ type: z.literal('function'), function: z.object({ name: z.string() }) }),
])

export interface Tool {
  readonly name: string
  readonly description: string | undefined
  /** JSON schema of the arguments; undefined = any object. */
  readonly parameters: Readonly<Record<string, unknown>> | undefined
}

export interface ToolUse {
  readonly tools: readonly Tool[]
  /** `named`: exactly the one tool that is left in `tools` must be called; the prompt still shows all of `shown`. */
  readonly choice: 'auto' | 'required' | 'named'
  readonly shown: readonly Tool[]
  readonly parallel: boolean
}

/** null = no tools in this request. An empty list is none, and so is `none`. Throws ApiError 400. */
export function toolChoice(
  given: readonly z.output<typeof ToolSchema>[] | undefined,
  choice: z.output<typeof ToolChoiceSchema> | undefined,
  parallel: boolean | undefined,
): ToolUse | null {
  const tools = (given ?? []).map((tool): Tool => ({
    name: tool.function.name,
    description: tool.function.description,
    parameters: tool.function.parameters,
  }))
  if (choice === 'none') return null
  if (tools.length === 0) {
    if (choice === undefined || choice === 'auto') return null
    throw badRequest('tool_choice', '"tool_choice" asks for a tool, but there are no "tools".')
  }
  const names = new Set(tools.map((tool) => tool.name))
  if (names.size < tools.length) throw badRequest('tools', 'Two tools have the same name.')
  if (choice === undefined || choice === 'auto' || choice === 'required')
    return { tools, shown: tools, choice: choice ?? 'auto', parallel: parallel ?? true }
  const named = tools.find((tool) => tool.name === choice.function.name)
  if (named === undefined) throw badRequest('tool_choice', `"tool_choice" names ${choice.function.name}, which is not among the tools.`)
  return { tools: [named], shown: tools, choice: 'named', parallel: false }
}

/** The tools as templates of open models show them. */
export function templateTools(tools: readonly Tool[]): readonly object[] {
  return tools.map(({ name, description, parameters }) => ({
    type: 'function',
    function: {
      name,
      ...(description !== undefined && { description }),
      parameters: parameters ?? { type: 'object', properties: {} },
    },
  }))
}

/** An empty description wherever one is missing: the tool's and its parameters'. */
export function withDescriptions(tool: Tool): Tool {
  const properties = tool.parameters?.['properties']
  const described =
    typeof properties === 'object' && properties !== null
      ? Object.fromEntries(
          Object.entries(properties).map(([name, property]: [string, unknown]) => [
            name,
            typeof property === 'object' && property !== null ? { description: '', ...property } : property,
          ]),
        )
      : undefined
  return {
    ...tool,
    description: tool.description ?? '',
    ...(described !== undefined && { parameters: { ...tool.parameters, properties: described } }),
  }
}
