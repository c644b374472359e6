/**
 * Chat templates: which one a model folder has, and rendering it with Hugging Face's conventions (the variables and functions that
 * transformers' apply_chat_template provides). Templates come from strangers: they run in the jinja interpreter, which reaches nothing
 * outside it, with a bounded `range`, a bounded size and a time limit. Knows no token ids.
 */
import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja'
import { LatheError } from '../contract/errors.ts'
import { withTimeLimit } from '../checkpoint/time-limit.ts'

/** Templates of a folder by name; most have only "default". */
export type ChatTemplates = ReadonlyMap<string, string>

export interface ChatTurn {
  /** "system", "user", "assistant", "tool", … as the template understands them. */
  readonly role: string
  readonly content: unknown
  readonly [key: string]: unknown
}

export interface RenderOptions {
  readonly messages: readonly ChatTurn[]
  /** Ends the text where the assistant is to begin. */
  readonly addGenerationPrompt: boolean
  /** JSON-schema tools, for templates that know them. */
  readonly tools?: readonly unknown[] | null
  /** `bos_token`, `eos_token` and the like. */
  readonly specialTokens: Readonly<Record<string, string>>
  /** Further template variables (`enable_thinking`, …). */
  readonly variables?: Readonly<Record<string, unknown>>
  /** What `strftime_now` sees; the current time by default. */
  readonly now?: Date
}

/** Templates run to tens of KB. */
export const MAX_TEMPLATE_LENGTH = 1 << 20
/** Templates count messages or tools with it. */
const MAX_RANGE = 100_000
const RENDER_LIMIT_MS = 5000

/** Thrown out of the interpreter by `raise_exception`, to tell a template's refusal from its failure. */
class TemplateRefusal extends Error {}

type Program = ReturnType<typeof parse>
const programs = new Map<string, Program>()
const MAX_CACHED_PROGRAMS = 32

/**
 * Templates from `chat_template` of tokenizer_config.json (a string or a list of {name, template}) and, taking precedence as in
 * transformers, the file chat_template.jinja. Throws `tokenizer.invalid` for other shapes.
 */
export function chatTemplatesOf(configured: unknown, jinjaFile: string | null): ChatTemplates {
  const templates = new Map<string, string>()
  if (typeof configured === 'string') templates.set('default', configured)
  else if (Array.isArray(configured)) {
    for (const entry of configured as unknown[]) {
      const { name, template } = (typeof entry === 'object' && entry !== null ? entry : {}) as Record<string, unknown>
      if (typeof name !== 'string' || typeof template !== 'string') throw invalid('has a chat template without name or text')
      templates.set(name, template)
    }
  } else if (configured !== undefined && configured !== null) throw invalid('has a chat_template that is neither text nor a list')
  if (jinjaFile !== null) templates.set('default', jinjaFile)
  for (const template of templates.values()) {
    if (template.length > MAX_TEMPLATE_LENGTH) throw invalid(`has a chat template of ${template.length} characters`)
  }
  return templates
}

/**
 * The template for a conversation: with tools, the one called "tool_use" where there is one; else "default". Throws
 * `tokenizer.no-chat-template`: a made-up format would silently give bad answers.
 */
export function pickTemplate(templates: ChatTemplates, options: { readonly withTools: boolean }): string {
  const template = (options.withTools ? templates.get('tool_use') : undefined) ?? templates.get('default')
  if (template !== undefined) return template
  const others = [...templates.keys()].slice(0, 5).join(', ')
  throw new LatheError(
    'tokenizer.no-chat-template',
    others === '' ? 'The model has no chat template.' : `The model has no default chat template, only: ${others}.`,
    'It is a base model: use it for completion, or choose its chat or instruct version.',
  )
}

/** Renders a template. Throws `tokenizer.template-failed` when it refuses (raise_exception), is wrong, or takes too long. */
export function renderChatTemplate(template: string, options: RenderOptions): string {
  const run = (): string => {
    const result = new Interpreter(environmentFor(options)).run(programOf(template))
    if (typeof result.value !== 'string') throw new Error('the template did not produce text')
    return result.value
  }
  try {
    return withTimeLimit(RENDER_LIMIT_MS, run, () => {
      return failed(
        `takes over ${RENDER_LIMIT_MS / 1000} seconds`,
        'It was stopped. The template is broken or hostile; do not use this model for chat.',
      )
    })
  } catch (error) {
    if (error instanceof LatheError) throw error
    const detail = error instanceof Error ? error.message.slice(0, 300) : String(error)
    if (error instanceof TemplateRefusal)
      throw failed(`refuses these messages: ${detail}`, 'Change the conversation (roles, order or system prompt) and try again.')
    throw failed(`failed: ${detail}`, 'The template in the model folder is wrong or uses something that Lathe does not know.', error)
  }
}

function programOf(template: string): Program {
  const cached = programs.get(template)
  if (cached !== undefined) return cached
  // The block trimming that transformers sets.
  const program = parse(tokenize(template, { lstrip_blocks: true, trim_blocks: true }))
  if (programs.size >= MAX_CACHED_PROGRAMS) programs.clear()
  programs.set(template, program)
  return program
}

function environmentFor(options: RenderOptions): Environment {
  const now = options.now ?? new Date()
  const globals: Record<string, unknown> = {
    true: true,
    false: false,
    none: null,
    True: true,
    False: false,
    None: null,
    raise_exception: (message: unknown) => {
      throw new TemplateRefusal(String(message))
    },
    range: boundedRange,
    strftime_now: (format: unknown) => strftime(now, String(format)),
  }
  const variables: Record<string, unknown> = {
    // transformers passes these even when unset, so templates test them with "is not none".
    tools: null,
    documents: null,
    ...options.specialTokens,
    ...options.variables,
    messages: options.messages,
    add_generation_prompt: options.addGenerationPrompt,
  }
  if (options.tools !== undefined && options.tools !== null) variables['tools'] = options.tools
  const environment = new Environment()
  for (const [name, value] of Object.entries({ ...variables, ...globals })) environment.set(name, value)
  return environment
}

/** Python's range as an array. */
function boundedRange(...args: unknown[]): number[] {
  const numbers = args.filter((arg) => typeof arg === 'number')
  if (numbers.length === 0) throw new Error('range() needs a number')
  const [first = 0, second, step = 1] = numbers
  const [start, stop] = second === undefined ? [0, first] : [first, second]
  if (step === 0) throw new Error('range() step must not be zero')
  const count = Math.max(0, Math.ceil((stop - start) / step))
  if (!(count <= MAX_RANGE)) throw new Error(`range() of ${count} numbers; at most ${MAX_RANGE} are allowed`)
  return Array.from({ length: count }, (_, i) => start + i * step)
}

const MONTHS = ['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October', 'November', 'December']
const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday']

function twoDigits(value: number): string {
  return String(value).padStart(2, '0')
}

/** Python's strftime in the C locale and local time, for the directives that templates use; others stay as they are. */
export function strftime(date: Date, format: string): string {
  const month = MONTHS[date.getMonth()] ?? ''
  const day = DAYS[date.getDay()] ?? ''
  const hour = date.getHours()
  const directives: Readonly<Record<string, string>> = {
    Y: String(date.getFullYear()),
    y: twoDigits(date.getFullYear() % 100),
    m: twoDigits(date.getMonth() + 1),
    d: twoDigits(date.getDate()),
    e: String(date.getDate()).padStart(2, ' '),
    B: month,
    b: month.slice(0, 3),
    A: day,
    a: day.slice(0, 3),
    H: twoDigits(hour),
    I: twoDigits(hour % 12 === 0 ? 12 : hour % 12),
    M: twoDigits(date.getMinutes()),
    S: twoDigits(date.getSeconds()),
    p: hour < 12 ? 'AM' : 'PM',
    '%': '%',
  }
  return format.replaceAll(/%(-?)([A-Za-z%])/g, (whole, unpadded: string, letter: string) => {
    const text = directives[letter]
    if (text === undefined) return whole
    return unpadded === '' ? text : text.replace(/^[0 ](?=.)/, '')
  })
}

function failed(why: string, hint: string, cause?: unknown): LatheError {
  return new LatheError('tokenizer.template-failed', `The chat template ${why}.`, hint, cause === undefined ? {} : { cause })
}

function invalid(why: string): LatheError {
  return new LatheError('tokenizer.invalid', `tokenizer_config.json ${why}.`, 'The file is damaged. Download it again.')
}
