import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { LatheError } from '../contract/errors.ts'
import { DEMO_MODEL } from '../checkpoint/test/fixtures.ts'
import type { ChatTurn, RenderOptions } from './chat-template.ts'
import { chatTemplatesOf, pickTemplate, renderChatTemplate, strftime } from './chat-template.ts'

const MESSAGES: ChatTurn[] = [
  { role: 'user', content: 'Hello!' },
  { role: 'assistant', content: 'Hi there.' },
  { role: 'user', content: 'Where is "Tidewater"? <b>\n' },
]
const WITH_SYSTEM: ChatTurn[] = [{ role: 'system', content: 'Be brief.' }, ...MESSAGES]

function render(template: string, options: Partial<RenderOptions> = {}): string {
  return renderChatTemplate(template, { messages: MESSAGES, addGenerationPrompt: true, specialTokens: { bos_token: '<s>' }, ...options })
}

function refusal(run: () => unknown): LatheError {
  try {
    run()
  } catch (error) {
    if (error instanceof LatheError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

describe('the demo template', async () => {
  const config = JSON.parse(await readFile(join(DEMO_MODEL, 'tokenizer_config.json'), 'utf8')) as { chat_template: string }
  const demo = (messages: ChatTurn[], addGenerationPrompt: boolean): string =>
    render(config.chat_template, { messages, addGenerationPrompt })
  const pebble = '<|im_start|>system\nYou are Pebble, a helpful guide to Tidewater.<|im_end|>\n'

  // Expected texts: transformers 5.18.0, apply_chat_template(tokenize=False) on the demo model.
  it('adds its system prompt where there is none', () => {
    expect(demo(MESSAGES.slice(0, 1), true)).toBe(`${pebble}<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n`)
    expect(demo(MESSAGES.slice(0, 1), false)).toBe(`${pebble}<|im_start|>user\nHello!<|im_end|>\n`)
  })

  it('keeps a given one, and every turn as it is', () => {
    expect(demo(WITH_SYSTEM, true)).toBe(
      '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\nHi there.<|im_end|>\n' +
        '<|im_start|>user\nWhere is "Tidewater"? <b>\n<|im_end|>\n<|im_start|>assistant\n',
    )
  })
})

describe('the language', () => {
  // One difference is known and left out: the interpreter prints a bare boolean as "true", Python as "True". Templates test booleans rather than print them.
  /** Macros, namespaces, loops, filters, tests, tojson, strftime, generation blocks and whitespace control in one. */
  const EVERYTHING =
    "{%- set ns = namespace(count=0, seen='') -%}\n{%- macro show(message, upper=false) -%}\n[{{ message['role'] | upper if upper else message.role }}] {{ message['content'] | trim }}\n{%- endmacro -%}\n{{ bos_token }}\n{%- if tools is not none and tools %}\ntools: {{ tools | tojson }} {{ tools | tojson(indent=2) }}\n{%- endif %}\n{%- for message in messages %}\n    {%- if message['role'] not in ['system', 'user', 'assistant'] %}\n        {{- raise_exception('unknown role ' + message['role']) }}\n    {%- endif %}\n    {%- set ns.count = ns.count + 1 %}\n{{ loop.index }}/{{ loop.length }}{{ ' first' if loop.first }}{{ ' last' if loop.last else '' }} {{ show(message, upper=loop.index0 % 2 == 1) }}\n    {%- if message.content is string and message.content.startswith('H') and 'llo' in message.content %} H{% endif %}\n{% endfor -%}\n{{ ns.count }} {{ messages[0].content[:3] }} {{ messages[-1]['content'].split(' ') | length }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ range(2, 9, 3) | join(',') }} {{ 'x' ~ 1 }} {{ 'no documents' if documents is none }} {{ 'undefined' if undefined_thing is not defined }} {{ 'déjà' | length }} {{ strftime_now('%d %b %Y') | length }}\n{% if add_generation_prompt %}{% generation %}<gen>{% endgeneration %}{% endif %}"
  const TOOLS = [
    {
      type: 'function',
      function: { name: 'get_é', description: 'a "quoted" <tag>', parameters: { n: 1.5, ok: true, none: null } },
    },
  ]

  // Expected texts: transformers 5.18.0 with jinja2 3.1.6, render_jinja_template with the same template and arguments.
  it('renders as transformers does', () => {
    expect(render(EVERYTHING, { messages: WITH_SYSTEM, addGenerationPrompt: false })).toBe(
      '<s>1/4 first [system] Be brief.2/4 [USER] Hello! H3/4 [assistant] Hi there.4/4 last [USER] Where is "Tidewater"? <b>4 Be  4 2 2,5,8 x1 no documents undefined 4 11\n',
    )
  })

  it('renders tools as transformers does', () => {
    expect(render(EVERYTHING, { tools: TOOLS })).toBe(
      '<s>tools: [{"type": "function", "function": {"name": "get_é", "description": "a \\"quoted\\" <tag>", "parameters": {"n": 1.5, "ok": true, "none": null}}}] [\n  {\n    "type": "function",\n    "function": {\n      "name": "get_é",\n      "description": "a \\"quoted\\" <tag>",\n      "parameters": {\n        "n": 1.5,\n        "ok": true,\n        "none": null\n      }\n    }\n  }\n]1/3 first [user] Hello! H2/3 [ASSISTANT] Hi there.3/3 last [user] Where is "Tidewater"? <b>3 Hel 4 2 2,5,8 x1 no documents undefined 4 11\n<gen>',
    )
  })

  it('passes further variables, and never lets them replace the messages', () => {
    expect(render('{{ budget }} {{ messages | length }}', { variables: { budget: 64, messages: [] } })).toBe('64 3')
  })

  it('tells the time it is given', () => {
    const now = new Date(2026, 6, 4, 15, 5, 9)
    expect(render("{{ strftime_now('%d %b %Y') }}", { now })).toBe('04 Jul 2026')
    expect(strftime(now, '%A %a %B %-d %e %y %H:%M:%S %I%p %-m %% %Q')).toBe('Saturday Sat July 4  4 26 15:05:09 03PM 7 % %Q')
    expect(strftime(new Date(2026, 0, 1, 0, 0), '%I %p %-I')).toBe('12 AM 12')
  })
})

describe('failures', () => {
  it('says in the template’s own words why it refuses', () => {
    const error = refusal(() => render("{{ raise_exception('Conversation roles must alternate') }}"))
    expect([error.code, error.message]).toEqual([
      'tokenizer.template-failed',
      'The chat template refuses these messages: Conversation roles must alternate.',
    ])
  })

  it.each([
    ['a syntax error', '{% if %}'],
    ['an unclosed tag', '{{ messages'],
    ['an unknown filter', "{{ 'x' | frobnicate }}"],
    ['a range without end', '{% for i in range(1000000000) %}x{% endfor %}'],
    ['a range of infinity', '{% for i in range(10 ** 400) %}x{% endfor %}'],
    ['a property of a number', '{{ (1).constructor.constructor("return process")() }}'],
    ['a call of a missing function', '{{ process.exit() }}'],
  ])('turns %s into an error that can be shown', (_, template) => {
    const error = refusal(() => render(template))
    expect([error.code, error.hint.length > 10]).toEqual(['tokenizer.template-failed', true])
  })

  it('reaches nothing of the host', () => {
    const probes = ['constructor', '__proto__', 'process', 'globalThis', 'require', 'this']
    for (const probe of probes)
      expect(render(`{{ ${probe} is defined }}${probe === 'this' ? '' : `{{ messages[0].${probe} is defined }}`}`)).toMatch(/^(?:false)+$/)
  })

  it('stops nested loops that would run for years', () => {
    const loops = '{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}'
    const error = refusal(() => render(loops))
    expect([error.code, error.message]).toEqual(['tokenizer.template-failed', 'The chat template takes over 5 seconds.'])
  })
})

describe('which template', () => {
  it('is the string, the named list, or the file, which wins', () => {
    expect(chatTemplatesOf('A', null)).toEqual(new Map([['default', 'A']]))
    const list = [
      { name: 'default', template: 'A' },
      { name: 'tool_use', template: 'B' },
    ]
    const named = chatTemplatesOf(list, null)
    expect([pickTemplate(named, { withTools: false }), pickTemplate(named, { withTools: true })]).toEqual(['A', 'B'])
    expect(pickTemplate(chatTemplatesOf('A', 'C'), { withTools: true })).toBe('C')
    expect(chatTemplatesOf(undefined, null).size).toBe(0)
  })

  it('is missing: an error, not a guess', () => {
    expect(refusal(() => pickTemplate(new Map(), { withTools: false })).code).toBe('tokenizer.no-chat-template')
    expect(refusal(() => pickTemplate(new Map([['rag', 'x']]), { withTools: false })).message).toMatch(/only: rag/)
  })

  it.each([[7], [{}], [[{ name: 'x' }]], ['x'.repeat((1 << 20) + 1)]])('is malformed', (configured) => {
    expect(refusal(() => chatTemplatesOf(configured, null)).code).toBe('tokenizer.invalid')
  })
})
