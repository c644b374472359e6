import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it, onTestFinished } from 'vitest'
import { LatheError } from '../contract/errors.ts'
import { DEMO_MODEL, sharedData } from '../checkpoint/test/fixtures.ts'
import type { Tokenizer } from './tokenizer.ts'
import { createTokenizer, loadTokenizer } from './tokenizer.ts'
import reference from './test/python-tokenizers.json' with { type: 'json' }

const SEED = 20_261_123
const models = sharedData('models')
const golden = sharedData('golden')

const FOLDERS = {
  demo: DEMO_MODEL,
  stories260k: join(models ?? '', 'stories260k'),
  'tinystories-656k': join(models ?? '', 'tinystories-656k'),
}
type Name = keyof typeof FOLDERS
const available: readonly Name[] = models === null ? ['demo'] : ['demo', 'stories260k', 'tinystories-656k']

async function goldenFile<T>(name: string): Promise<T> {
  return JSON.parse(await readFile(join(golden ?? '', `${name}.json`), 'utf8')) as T
}

async function refusal(run: () => unknown): Promise<LatheError> {
  const thrown = await Promise.resolve()
    .then(run)
    .then(
      () => null,
      (error: unknown) => error,
    )
  expect(thrown).toBeInstanceOf(LatheError)
  return thrown as LatheError
}

describe('encoding', () => {
  it.each(available)('equals huggingface/tokenizers on awkward texts: %s', async (name) => {
    const tokenizer = await loadTokenizer(FOLDERS[name])
    for (const { text, ids, plainIds } of reference.cases[name]) {
      expect({ text, ids: [...tokenizer.encode(text, { addSpecialTokens: true })] }).toEqual({ text, ids })
      expect({ text, ids: [...tokenizer.encode(text, { addSpecialTokens: false })] }).toEqual({ text, ids: plainIds })
    }
  })

  it.skipIf(golden === null)('gives the golden ids of the demo model', async () => {
    const tokenizer = await loadTokenizer(DEMO_MODEL)
    const { prompts } = await goldenFile<{ prompts: { text: string; ids: number[]; greedy_tokens: number[]; greedy_text: string }[] }>(
      'demo',
    )
    expect(prompts.length).toBe(4)
    for (const prompt of prompts) {
      expect([...tokenizer.encode(prompt.text, { addSpecialTokens: false })]).toEqual(prompt.ids)
      expect(tokenizer.decode(prompt.ids, { skipSpecialTokens: false })).toBe(prompt.text)
    }
  })

  it.skipIf(golden === null).each(['stories260k', 'tinystories-656k'] as const)('gives the golden ids of %s', async (name) => {
    const tokenizer = await loadTokenizer(FOLDERS[name])
    const prompts = (await goldenFile<{ tokens: number[]; text?: string }[]>(name)).filter((prompt) => prompt.text !== undefined)
    expect(prompts.length).toBe(4)
    for (const { text, tokens } of prompts) expect([...tokenizer.encode(text!, { addSpecialTokens: true })]).toEqual(tokens)
  })

  it('finds byte-level BPE to be lossless for any text', async () => {
    const tokenizer = await loadTokenizer(DEMO_MODEL)
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(tokenizer.decode(tokenizer.encode(text, { addSpecialTokens: false }), { skipSpecialTokens: false })).toBe(text)
      }),
      { seed: SEED, numRuns: 300 },
    )
  })
})

describe('decoding', () => {
  it.each(available)('equals huggingface/tokenizers: %s', async (name) => {
    const tokenizer = await loadTokenizer(FOLDERS[name])
    // tinystories marks its special tokens "normalized"; the library then fails to recognise <unk> as special when it decodes and shows it
    // with a space before. Skipping means skipping here, so cases with such tokens are left out.
    const cases = reference.cases[name].filter(({ plainIds }) => name !== 'tinystories-656k' || !plainIds.some((id) => id <= 2))
    expect(cases.length).toBeGreaterThan(10)
    for (const { plainIds, decoded } of cases) expect(tokenizer.decode(plainIds, { skipSpecialTokens: true })).toBe(decoded)
  })

  it('skips or shows special tokens, and gives nothing for ids outside the vocabulary', async () => {
    const tokenizer = await loadTokenizer(DEMO_MODEL)
    const ids = tokenizer.encode('<|im_start|>user\nhi<|im_end|>', { addSpecialTokens: false })
    expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe('user\nhi')
    expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe('<|im_start|>user\nhi<|im_end|>')
    expect(tokenizer.decode([2048, 99999, -1], { skipSpecialTokens: false })).toBe('')
    expect([tokenizer.tokenBytes(5000).length, tokenizer.tokenText(5000)]).toEqual([0, null])
  })

  it.skipIf(models === null)('knows the bytes of byte-fallback and sentencepiece tokens', async () => {
    const tokenizer = await loadTokenizer(FOLDERS.stories260k)
    const bytesOf = (text: string): number[] => {
      const id = Array.from({ length: tokenizer.vocabSize }, (_, i) => i).find((i) => tokenizer.tokenText(i) === text)
      return [...tokenizer.tokenBytes(id ?? -1)]
    }
    expect(bytesOf('<0x0A>')).toEqual([10])
    expect(bytesOf('<0xFF>')).toEqual([255])
    expect(bytesOf('▁the')).toEqual([...Buffer.from(' the')])
    expect(bytesOf('<unk>')).toEqual([...Buffer.from('<unk>')])
  })
})

/** The text of each token as it comes, and of the flush. */
function streamed(tokenizer: Tokenizer, ids: readonly number[], skipSpecialTokens: boolean, promptTail: readonly number[] = []): string[] {
  const decoder = tokenizer.createStreamDecoder({ skipSpecialTokens, promptTail })
  return [...ids.map((id) => decoder.push([id])), decoder.flush()]
}

describe('streaming', () => {
  it.each(available)('equals whole decoding for any tokens, in whole characters: %s', async (name) => {
    const tokenizer = await loadTokenizer(FOLDERS[name])
    // Any id, and byte tokens more often than chance would give them, so that characters break everywhere.
    const id = fc.oneof(fc.nat(tokenizer.vocabSize - 1), fc.integer({ min: 3, max: 258 }))
    fc.assert(
      fc.property(fc.array(id, { maxLength: 40 }), fc.boolean(), (ids, skipSpecialTokens) => {
        const pieces = streamed(tokenizer, ids, skipSpecialTokens)
        expect(pieces.join('')).toBe(tokenizer.decode(ids, { skipSpecialTokens }))
        expect(pieces.every((piece) => piece.isWellFormed())).toBe(true)
      }),
      { seed: SEED, numRuns: 1000 },
    )
  })

  it.each(available)('shows nothing of a character before its last byte, and never holds more than that: %s', async (name) => {
    const tokenizer = await loadTokenizer(FOLDERS[name])
    const text = fc.string({ unit: fc.constantFrom('a', ' ', 'é', '世', '😀', '🌊', '👩‍👩‍👧', '\u0301', '\n') })
    fc.assert(
      fc.property(text, (original) => {
        const ids = [...tokenizer.encode(original, { addSpecialTokens: false })]
        let shown = ''
        const decoder = tokenizer.createStreamDecoder({ skipSpecialTokens: true })
        for (const [i, id] of ids.entries()) {
          shown += decoder.push([id])
          const whole = tokenizer.decode(ids.slice(0, i + 1), { skipSpecialTokens: true })
          // What is complete is shown at once: only the broken last character, shown as U+FFFD by the whole decode, may be missing.
          expect(whole.startsWith(shown)).toBe(true)
          expect(whole.slice(shown.length)).toMatch(/^\ufffd*$/)
          expect(shown).not.toContain('\ufffd')
        }
      }),
      { seed: SEED, numRuns: 300 },
    )
  })

  it.skipIf(models === null)('gives an emoji only with its fourth byte token', async () => {
    const tokenizer = await loadTokenizer(FOLDERS.stories260k)
    // <0x00> is id 3 in this vocabulary: 😀 is F0 9F 98 80.
    const ids = [0xf0, 0x9f, 0x98, 0x80].map((byte) => byte + 3)
    expect(streamed(tokenizer, ids, true)).toEqual(['', '', '', '😀', ''])
    expect(streamed(tokenizer, ids.slice(0, 3), true)).toEqual(['', '', '', '\ufffd'])
    // Broken by a letter: the held bytes come out as one U+FFFD before it.
    const letter = tokenizer.encode('x', { addSpecialTokens: false }).at(-1)!
    expect(streamed(tokenizer, [...ids.slice(0, 2), letter], true)).toEqual(['', '', '\ufffdx', ''])
  })

  it.skipIf(models === null)('drops the leading space of a text, but not of its continuation', async () => {
    const tokenizer = await loadTokenizer(FOLDERS.stories260k)
    const ids = [...tokenizer.encode('Once upon', { addSpecialTokens: false })]
    const prompt = [...tokenizer.encode('She said:', { addSpecialTokens: true })]
    expect(streamed(tokenizer, ids, true).join('')).toBe('Once upon')
    expect(streamed(tokenizer, ids, true, prompt.slice(-4)).join('')).toBe(' Once upon')
    expect(streamed(tokenizer, ids, true, [tokenizer.bosTokenId!]).join('')).toBe('Once upon')
  })

  it('continues exactly where a prompt ends, wherever it is cut', async () => {
    for (const name of available) {
      const tokenizer = await loadTokenizer(FOLDERS[name])
      const ids = [...tokenizer.encode('  Two  spaces, é😀 and  <|im_end|> more\n', { addSpecialTokens: true })]
      const whole = tokenizer.decode(ids, { skipSpecialTokens: true })
      for (let cut = 0; cut <= ids.length; cut++) {
        const tail = streamed(tokenizer, ids.slice(cut), true, ids.slice(0, cut)).join('')
        const head = tokenizer.createStreamDecoder({ skipSpecialTokens: true })
        expect(head.push(ids.slice(0, cut)) + tail).toBe(whole)
      }
    }
  })
})

describe('special tokens and templates', () => {
  it('reads roles and kind of the demo model', async () => {
    const { kind, vocabSize, bosTokenId, eosTokenId, padTokenId, specialTokens, isSpecial } = await loadTokenizer(DEMO_MODEL)
    expect({ kind, vocabSize, bosTokenId, eosTokenId, padTokenId, specialTokens, special: [0, 1, 2, 3, 4].map(isSpecial) }).toEqual({
      kind: 'BPE, byte-level',
      vocabSize: 2048,
      bosTokenId: 0,
      eosTokenId: 2,
      padTokenId: 3,
      specialTokens: [
        { role: 'bos', id: 0, text: '<|endoftext|>' },
        { role: 'eos', id: 2, text: '<|im_end|>' },
        { role: 'pad', id: 3, text: '<|pad|>' },
        { role: 'additional', id: 1, text: '<|im_start|>' },
      ],
      special: [true, true, true, true, false],
    })
  })

  it.skipIf(models === null)('reads roles from {content} objects and special_tokens_map.json, and finds no template', async () => {
    const tokenizer = await loadTokenizer(FOLDERS['tinystories-656k'])
    expect([tokenizer.kind, tokenizer.bosTokenId, tokenizer.eosTokenId, tokenizer.chatTemplates.size]).toEqual([
      'BPE, byte-fallback',
      1,
      2,
      0,
    ])
    const error = await refusal(() => tokenizer.renderChat({ messages: [], addGenerationPrompt: true }))
    expect(error.code).toBe('tokenizer.no-chat-template')
  })

  it.skipIf(models === null)('reads the template from chat_template.jinja as from tokenizer_config.json', async () => {
    const inline = await loadTokenizer(DEMO_MODEL)
    const file = await loadTokenizer(join(models ?? '', 'llmcompressor-gptq-w4a16-g128'))
    const chat = { messages: [{ role: 'user', content: 'Hi' }], addGenerationPrompt: true }
    expect([...file.encodeChat(chat)]).toEqual([...inline.encodeChat(chat)])
  })

  it('encodes a conversation as transformers does, without a second BOS', async () => {
    const tokenizer = await loadTokenizer(DEMO_MODEL)
    const messages = [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'Hello!' },
      { role: 'assistant', content: 'Hi there.' },
      { role: 'user', content: 'Where is "Tidewater"? <b>\n' },
    ]
    // transformers 5.18.0: AutoTokenizer.from_pretrained(demo).apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    expect([...tokenizer.encodeChat({ messages, addGenerationPrompt: true })]).toEqual([
      1, 320, 14, 70, 105, 815, 50, 2, 14, 1, 281, 14, 1785, 37, 2, 14, 1, 282, 14, 76, 109, 595, 50, 2, 14, 1, 281, 14, 611, 287, 381, 88,
      311, 38, 67, 36, 64, 102, 66, 14, 2, 14, 1, 282, 14,
    ])
  })

  it('follows add_bos_token for Llama-class tokenizers, whatever the template says', () => {
    const base = {
      tokenizer: {
        model: { type: 'BPE', vocab: { a: 0, '<s>': 1 }, merges: [] },
        decoder: { type: 'Fuse' },
        added_tokens: [{ id: 1, content: '<s>', special: true }],
      },
      specialMap: {},
      chatTemplates: new Map(),
    }
    const ids = (config: Record<string, unknown>): number[] => {
      return [...createTokenizer({ ...base, config: { bos_token: '<s>', ...config } }).encode('a', { addSpecialTokens: true })]
    }
    expect(ids({ tokenizer_class: 'LlamaTokenizer', add_bos_token: true })).toEqual([1, 0])
    expect(ids({ tokenizer_class: 'LlamaTokenizerFast', add_bos_token: false })).toEqual([0])
    expect(ids({ tokenizer_class: 'PreTrainedTokenizerFast', add_bos_token: true })).toEqual([0])
    const templated = {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>' } }, { Sequence: { id: 'A' } }],
      special_tokens: { '<s>': { ids: [1] } },
    }
    const withTemplate = createTokenizer({
      ...base,
      tokenizer: { ...base.tokenizer, post_processor: templated },
      config: { bos_token: '<s>', tokenizer_class: 'LlamaTokenizer', add_bos_token: false },
    })
    expect([...withTemplate.encode('<s>a', { addSpecialTokens: true })]).toEqual([1, 0])
  })
})

async function folderWith(files: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'lathe-tokenizer-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content)
  return folder
}

describe('hostile and foreign files', () => {
  const bpe = { type: 'BPE', vocab: { a: 0, b: 1 }, merges: [] }
  const file = (change: Record<string, unknown>): string =>
    JSON.stringify({ model: bpe, decoder: { type: 'ByteLevel' }, added_tokens: [], ...change })

  it.each<[string, Record<string, string>, string, RegExp]>([
    ['no tokenizer', {}, 'tokenizer.missing', /no tokenizer.json/],
    ['broken JSON', { 'tokenizer.json': '{' }, 'tokenizer.invalid', /not valid JSON/],
    ['a list', { 'tokenizer.json': '[]' }, 'tokenizer.invalid', /not a JSON object/],
    ['no model', { 'tokenizer.json': '{}' }, 'tokenizer.invalid', /no model/],
    ['WordPiece', { 'tokenizer.json': file({ model: { type: 'WordPiece', vocab: {} } }) }, 'tokenizer.invalid', /WordPiece/],
    ['no vocabulary', { 'tokenizer.json': file({ model: { ...bpe, vocab: null } }) }, 'tokenizer.invalid', /no vocabulary/],
    ['a negative id', { 'tokenizer.json': file({ model: { ...bpe, vocab: { a: -1 } } }) }, 'tokenizer.invalid', /token id -1/],
    ['an id of billions', { 'tokenizer.json': file({ model: { ...bpe, vocab: { a: 4e9 } } }) }, 'tokenizer.invalid', /token id 4000000000/],
    ['an id that is text', { 'tokenizer.json': file({ model: { ...bpe, vocab: { a: 'length' } } }) }, 'tokenizer.invalid', /"length"/],
    ['merges that are no pairs', { 'tokenizer.json': file({ model: { ...bpe, merges: [['a']] } }) }, 'tokenizer.invalid', /merges/],
    ['an empty added token', { 'tokenizer.json': file({ added_tokens: [{ id: 2, content: '' }] }) }, 'tokenizer.invalid', /without text/],
    ['added tokens that are no list', { 'tokenizer.json': file({ added_tokens: {} }) }, 'tokenizer.invalid', /not a list/],
    ['a CTC decoder', { 'tokenizer.json': file({ decoder: { type: 'CTC' } }) }, 'tokenizer.invalid', /CTC/],
    ['no decoder', { 'tokenizer.json': file({ decoder: null }) }, 'tokenizer.invalid', /no decoder/],
    [
      'an endless decoder',
      { 'tokenizer.json': file({ decoder: JSON.parse('{"type":"Sequence","decoders":['.repeat(20) + ']}'.repeat(20)) as unknown }) },
      'tokenizer.invalid',
      /not understood/,
    ],
    ['an unknown pre-tokenizer', { 'tokenizer.json': file({ pre_tokenizer: { type: 'Telepathy' } }) }, 'tokenizer.invalid', /Telepathy/],
    [
      'a pattern that is none',
      { 'tokenizer.json': file({ pre_tokenizer: { type: 'Split', pattern: { Regex: '(' }, behavior: 'Isolated' } }) },
      'tokenizer.invalid',
      /cannot be used/,
    ],
    [
      'a template that is a number',
      { 'tokenizer.json': file({}), 'tokenizer_config.json': '{"chat_template": 7}' },
      'tokenizer.invalid',
      /chat_template/,
    ],
    ['a broken config', { 'tokenizer.json': file({}), 'tokenizer_config.json': '{"a":1,"a":2}' }, 'tokenizer.invalid', /twice/],
    [
      'duplicate tokens',
      { 'tokenizer.json': '{"model":{"type":"BPE","vocab":{"a":0,"a":1},"merges":[]}}' },
      'tokenizer.invalid',
      /"a" twice/,
    ],
  ])('%s', async (_, files, code, message) => {
    const folder = await folderWith(files)
    const error = await refusal(() => loadTokenizer(folder))
    expect([error.code, error.message]).toEqual([code, expect.stringMatching(message)])
    expect(error.hint.length).toBeGreaterThan(10)
  })

  it('a text that no token covers is refused, not silently shortened to nothing known', async () => {
    const folder = await folderWith({ 'tokenizer.json': file({ model: { ...bpe, unk_token: 'missing' } }) })
    const tokenizer = await loadTokenizer(folder)
    const error = await refusal(() => tokenizer.encode('zebra', { addSpecialTokens: false }))
    expect(error.code).toBe('tokenizer.invalid')
  })
})
