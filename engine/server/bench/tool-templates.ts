/**
 * Tool calling against the chat templates that models are published with: which format a template is told to have, whether our rendering is that of
 * another Jinja (give a JSON file of sha256 by file name, made by any other implementation with the conversation below), and whether the calls that
 * the template itself writes are read back, whole and cut at every character. Prints a Markdown table, and every difference.
 * `node engine/server/bench/tool-templates.ts <folder of .jinja files> [digests.json]`; `--conversation` prints the conversation as JSON.
 */
import { createHash } from 'node:crypto'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { renderChatTemplate } from '../../tokenizer/chat-template.ts'
import { withShortIds } from '../chat-run.ts'
import { ReasoningSplitter, reasoningStart, thinkTagsOf } from '../reasoning.ts'
import { toolFormatOf } from '../tools/tool-format.ts'
import type { ToolFormat } from '../tools/tool-format.ts'
import { ToolParser } from '../tools/tool-parser.ts'
import { templateTools, withDescriptions } from '../tools/tool-request.ts'

const TOOLS = [
  {
    type: 'function',
    function: {
      name: 'get_weather',
      description: 'Weather of a city',
      parameters: { type: 'object', properties: { city: { type: 'string' }, days: { type: 'integer' } }, required: ['city'] },
    },
  },
  {
    type: 'function',
    function: { name: 'get_time', description: 'Time of day', parameters: { type: 'object', properties: { zone: { type: 'string' } } } },
  },
]
const ASKED = { role: 'user', content: 'Weather and time in Oslo?' }
const WEATHER = { id: 'abcdefgh1', type: 'function', function: { name: 'get_weather', arguments: { city: 'Oslo "north" }{', days: 2 } } }
const TIME = { id: 'abcdefgh2', type: 'function', function: { name: 'get_time', arguments: { zone: 'Europe/Oslo' } } }
const SPECIAL_TOKENS = { bos_token: '<s>', eos_token: '</s>' }

function asking(calls: readonly object[]): readonly { role: string; content: string; tool_calls?: readonly object[] }[] {
  return [ASKED, { role: 'assistant', content: '', tool_calls: calls }]
}

/** What is rendered for comparison: a question, a call, its result, and the prompt for the answer. */
const CONVERSATION = [...asking([WEATHER]), { role: 'tool', name: 'get_weather', content: 'rain', tool_call_id: 'abcdefgh1' }]

if (process.argv.includes('--conversation')) {
  console.log(JSON.stringify({ messages: CONVERSATION, tools: TOOLS, ...SPECIAL_TOKENS }))
  process.exit(0)
}

function render(template: string, messages: readonly { role: string; content: string }[], addGenerationPrompt: boolean): string {
  const turns = template.includes('[TOOL_CALLS]') ? messages.map(withShortIds) : messages
  const shown = (tools: readonly object[]): string =>
    renderChatTemplate(template, { messages: turns, addGenerationPrompt, tools, specialTokens: SPECIAL_TOKENS })
  try {
    return shown(TOOLS)
  } catch (error) {
    // As the server does (chat-run.ts).
    if (!(error instanceof Error && error.message.includes('UndefinedValue'))) throw error
    return shown(templateTools(TOOLS.map((tool) => withDescriptions(tool.function))))
  }
}

interface Read {
  readonly content: string
  readonly calls: { name: string; arguments: string }[]
}

function read(format: ToolFormat, template: string, prompt: string, pieces: Iterable<string>): Read {
  const splitter = new ReasoningSplitter(reasoningStart(template, prompt), thinkTagsOf(template))
  const parser = new ToolParser(format)
  const calls: Read['calls'] = []
  let content = ''
  const take = (parts: ReturnType<ToolParser['push']>): void => {
    for (const part of parts) {
      if (part.kind === 'content') content += part.text
      else if (part.kind === 'call') calls[part.index] = { name: part.name, arguments: '' }
      else (calls[part.index] ?? { arguments: '' }).arguments += part.text
    }
  }
  const split = (parts: ReturnType<ReasoningSplitter['push']>): void => {
    for (const part of parts) if (part.kind === 'content') take(parser.push(part.text))
  }
  for (const piece of pieces) split(splitter.push(piece))
  split(splitter.finish())
  take(parser.finish())
  return { content, calls }
}

/** The answer as the template would write it, without what ends the turn. */
function answerText(template: string, prompt: string, calls: readonly object[]): string {
  const whole = render(template, asking(calls), false)
  let at = 0
  while (at < prompt.length && prompt[at] === whole[at]) at++
  // Where the template opens the thinking in the prompt and leaves it out of history, they part inside of a line or a tag.
  if (at < prompt.length) while (at > 0 && whole[at - 1] !== '\n' && whole[at - 1] !== '>') at--
  return whole.slice(at).replace(/(<\/s>|<\|im_end\|>|<\|eot_id\|>|<\|end\|>|<\|end_of_text\|>|<\|eom_id\|>)\s*/g, '')
}

function same(found: Read, calls: readonly (typeof WEATHER | typeof TIME)[]): boolean {
  if (found.content.trim() !== '' || found.calls.length !== calls.length) return false
  return calls.every(({ function: { name, arguments: given } }, index) => {
    const call = found.calls[index]
    return call !== undefined && call.name === name && JSON.stringify(JSON.parse(call.arguments)) === JSON.stringify(given)
  })
}

function attempt<T>(work: () => T): T | string {
  try {
    return work()
  } catch (error) {
    return error instanceof Error ? error.message.slice(0, 90) : String(error)
  }
}

const [folder = '.', digestsPath] = process.argv.slice(2)
const digests = digestsPath === undefined ? {} : (JSON.parse(readFileSync(digestsPath, 'utf8')) as Record<string, string | undefined>)
console.log(
  '| template | format | thinking | prompt as another Jinja renders it | one call read back | two calls | cut at every character |',
)
console.log('| --- | --- | --- | --- | --- | --- | --- |')
for (const file of readdirSync(folder)
  .filter((name) => name.endsWith('.jinja'))
  .toSorted()) {
  const template = readFileSync(join(folder, file), 'utf8')
  const format = toolFormatOf(template)
  const row = [file.replace('.jinja', ''), format ?? 'none: tools are refused']
  if (format === null) {
    console.log(`| ${[...row, '', '', '', '', ''].join(' | ')} |`)
    continue
  }
  const prompt = attempt(() => render(template, [ASKED], true))
  row.push(reasoningStart(template, prompt))
  const conversation = attempt(() => render(template, CONVERSATION, true))
  const digest = createHash('sha256').update(conversation).digest('hex')
  row.push(digests[file] === undefined ? '—' : digests[file] === digest ? 'yes' : 'NO')
  const outcomes = [[WEATHER], [WEATHER, TIME]].map((calls) => {
    const text = attempt(() => answerText(template, prompt, calls))
    const found = attempt(() => read(format, template, prompt, [text]))
    if (typeof found === 'string') return { whole: found, cut: false }
    const whole = attempt(() => same(found, calls))
    if (whole !== true) console.error(file, JSON.stringify(text), JSON.stringify(found))
    const cut = attempt(() => same(read(format, template, prompt, text), calls))
    return {
      whole: whole === true ? 'yes' : /supports single|only supports/.test(text) ? 'refused by the template' : `NO`,
      cut: cut === true,
    }
  })
  row.push(...outcomes.map(({ whole }) => whole), outcomes.some(({ whole, cut }) => whole === 'yes' && !cut) ? 'NO' : 'same')
  console.log(`| ${row.join(' | ')} |`)
}
