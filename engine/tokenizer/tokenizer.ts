/**
 * The tokenizer of a model folder: tokenizer.json for the vocabulary and rules (encoding by @huggingface/tokenizers), tokenizer_config.json
 * for special tokens and the chat template. Decoding is our own, over bytes (token-bytes.ts), so that whole and streamed text are the same.
 * Text is never "cleaned up": what the model wrote is what is shown. The folder is untrusted: sizes, ids and shapes are checked before the
 * library sees them, and encoding runs under a time limit because its patterns come from the file.
 */
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers'
import { LatheError } from '../contract/errors.ts'
import type { ModelFolder } from '../checkpoint/files.ts'
import { openFolder, readSmallFile } from '../checkpoint/files.ts'
import { isJsonObject, parseStrictJson } from '../checkpoint/strict-json.ts'
import { withTimeLimit } from '../checkpoint/time-limit.ts'
import type { ChatTemplates, RenderOptions } from './chat-template.ts'
import { MAX_TEMPLATE_LENGTH, chatTemplatesOf, pickTemplate, renderChatTemplate } from './chat-template.ts'
import type { StreamDecoder, StreamDecoderOptions } from './stream-decoder.ts'
import { createStreamDecoder } from './stream-decoder.ts'
import { tokenByteRules } from './token-bytes.ts'

type Json = Readonly<Record<string, unknown>>

/** Vocabularies of 256 K tokens come in files of some tens of MB. */
const MAX_TOKENIZER_BYTES = 128 << 20
const MAX_CONFIG_BYTES = 16 << 20
/** Vocabularies are 256 K tokens or less; embeddings for 16 M would not fit anywhere. */
const MAX_TOKEN_ID = 1 << 24
/** A megabyte encodes in seconds, on a loaded machine in half a minute; only a hostile pattern takes longer than both of these together. */
const ENCODE_LIMIT_MS = 60_000
const ENCODE_LIMIT_MS_PER_CHARACTER = 0.2
const LOAD_LIMIT_MS = 60_000

export interface SpecialToken {
  /** "bos", "eos", "pad", "unk", …, or "additional". */
  readonly role: string
  readonly id: number
  readonly text: string
}

export interface EncodeOptions {
  /** Adds what the tokenizer's template puts around a text (BOS, usually). Special tokens written in the text are always recognised. */
  readonly addSpecialTokens: boolean
}

export interface DecodeOptions {
  readonly skipSpecialTokens: boolean
}

export interface ChatOptions extends Omit<RenderOptions, 'specialTokens'> {
  /** Instead of the model's own. */
  readonly template?: string
}

export interface Tokenizer {
  /** For people: "BPE, byte-level". */
  readonly kind: string
  /** One more than the highest id; a model's own vocab_size may be larger (padding) but not smaller. */
  readonly vocabSize: number
  readonly bosTokenId: number | null
  readonly eosTokenId: number | null
  readonly padTokenId: number | null
  /** Each special token once, roles first; ids ascending within "additional". */
  readonly specialTokens: readonly SpecialToken[]
  readonly chatTemplates: ChatTemplates
  /** Spaces that decoding takes off the front of a whole text. */
  readonly stripLeadingSpaces: number
  encode(text: string, options: EncodeOptions): Uint32Array
  /** Ids outside the vocabulary give no text, as in huggingface/tokenizers. */
  decode(ids: Iterable<number>, options: DecodeOptions): string
  /** Bytes that a token adds to the text; empty outside the vocabulary. Do not modify. */
  tokenBytes(id: number): Uint8Array
  /** The token as the vocabulary writes it ("▁the", "Ġthe"), or null. */
  tokenText(id: number): string | null
  isSpecial(id: number): boolean
  createStreamDecoder(options: StreamDecoderOptions): StreamDecoder
  /** The conversation as the model expects it. Throws `tokenizer.no-chat-template`, `tokenizer.template-failed`. */
  renderChat(options: ChatOptions): string
  /** `renderChat`, encoded without adding special tokens: the template has already written them. */
  encodeChat(options: ChatOptions): Uint32Array
}

/** Throws `tokenizer.missing` or `tokenizer.invalid`, and what `openFolder` throws. */
export async function loadTokenizer(path: string): Promise<Tokenizer> {
  const folder = await openFolder(path)
  const tokenizer = await readJson(folder, 'tokenizer.json', MAX_TOKENIZER_BYTES)
  if (tokenizer === null) {
    throw new LatheError(
      'tokenizer.missing',
      'The folder has no tokenizer.json.',
      'Copy it from the original model. A sentencepiece tokenizer.model alone must first be converted.',
    )
  }
  const config = (await readJson(folder, 'tokenizer_config.json', MAX_CONFIG_BYTES)) ?? {}
  const specialMap = (await readJson(folder, 'special_tokens_map.json', MAX_CONFIG_BYTES)) ?? {}
  const jinja = await readSmallFile(folder, 'chat_template.jinja', { maxBytes: MAX_TEMPLATE_LENGTH, code: 'tokenizer.invalid' })
  const chatTemplates = chatTemplatesOf(config['chat_template'], jinja === null ? null : new TextDecoder().decode(jinja))
  return createTokenizer({ tokenizer, config, specialMap, chatTemplates })
}

async function readJson(folder: ModelFolder, name: string, maxBytes: number): Promise<Json | null> {
  const bytes = await readSmallFile(folder, name, { maxBytes, code: 'tokenizer.invalid' })
  if (bytes === null) return null
  const value = parseStrictJson(bytes, { what: name, code: 'tokenizer.invalid' })
  if (!isJsonObject(value)) throw invalid(`${name} is not a JSON object`)
  return value
}

export interface TokenizerSources {
  readonly tokenizer: Json
  readonly config: Json
  readonly specialMap: Json
  readonly chatTemplates: ChatTemplates
}

interface AddedToken {
  readonly id: number
  readonly content: string
  readonly special: boolean
}

/** Builds a tokenizer from parsed files. */
export function createTokenizer(sources: TokenizerSources): Tokenizer {
  const { tokenizer, config, specialMap, chatTemplates } = sources
  const model = tokenizer['model']
  if (!isJsonObject(model)) throw invalid('tokenizer.json has no model')
  const modelType = modelTypeOf(model)
  const texts = vocabularyOf(model)
  const idOf = new Map<string, number>()
  for (const [id, text] of texts.entries()) if (text !== undefined && !idOf.has(text)) idOf.set(text, id)
  const added = addedTokensOf(tokenizer['added_tokens'] ?? [])
  const addedIds = new Map<number, AddedToken>()
  for (const token of added) {
    texts[token.id] = token.content
    addedIds.set(token.id, token)
    idOf.set(token.content, token.id)
  }
  const rules = tokenByteRules(tokenizer['decoder'])
  const library = buildLibrary(tokenizer, model, modelType, added, config)
  const roles = rolesOf(config, specialMap, idOf)
  const roleId = (role: string): number | null => roles.find((token) => token.role === role)?.id ?? null
  const specialIds = new Set(added.filter((token) => token.special).map((token) => token.id))
  const additional = added
    .filter((token) => token.special && !roles.some((role) => role.id === token.id))
    .sort((a, b) => a.id - b.id)
    .map((token): SpecialToken => ({ role: 'additional', id: token.id, text: token.content }))
  const specialTexts = Object.fromEntries(roles.map((token) => [`${token.role}_token`, token.text]))
  const bosTokenId = roleId('bos')
  const templateBos = (): boolean => library.encode('', { add_special_tokens: true }).ids[0] === bosTokenId
  const bosRule = bosRuleOf(config, bosTokenId, bosTokenId !== null && templateBos())

  const encoder = new TextEncoder()
  const empty = new Uint8Array(0)
  const bytes: (Uint8Array | undefined)[] = []
  const tokenBytes = (id: number): Uint8Array => {
    const known = bytes[id]
    if (known !== undefined) return known
    const text = texts[id]
    if (text === undefined) return empty
    const made = addedIds.has(id) ? encoder.encode(text) : rules.bytesOf(text)
    bytes[id] = made
    return made
  }
  const self: Tokenizer = {
    kind: `${modelType}, ${rules.kind}`,
    vocabSize: texts.length,
    bosTokenId,
    eosTokenId: roleId('eos'),
    padTokenId: roleId('pad'),
    specialTokens: [...roles, ...additional],
    chatTemplates,
    stripLeadingSpaces: rules.stripLeadingSpaces,
    encode(text, options) {
      const encode = (): number[] => library.encode(text, { add_special_tokens: options.addSpecialTokens }).ids
      const limitMs = Math.ceil(ENCODE_LIMIT_MS + text.length * ENCODE_LIMIT_MS_PER_CHARACTER)
      let ids: number[]
      try {
        ids = withTimeLimit(limitMs, encode, () => invalid(`tokenizer.json takes over ${limitMs / 1000} s for ${text.length} characters`))
      } catch (error) {
        throw error instanceof LatheError ? error : libraryError('cannot encode this text', error)
      }
      const unknown = ids.findIndex((id) => !(id >= 0 && id < texts.length))
      if (unknown >= 0) throw invalid('tokenizer.json has no token for a part of this text, and no unknown token')
      if (!options.addSpecialTokens || bosRule === 'keep') return Uint32Array.from(ids)
      return Uint32Array.from(bosRule === 'prepend' && bosTokenId !== null ? [bosTokenId, ...ids] : ids.slice(1))
    },
    decode(ids, options) {
      const decoder = createStreamDecoder(self, options)
      return decoder.push(ids) + decoder.flush()
    },
    tokenBytes,
    tokenText: (id) => texts[id] ?? null,
    isSpecial: (id) => specialIds.has(id),
    createStreamDecoder: (options) => createStreamDecoder(self, options),
    renderChat(options) {
      const { template, ...rest } = options
      const chosen = template ?? pickTemplate(chatTemplates, { withTools: (options.tools ?? []).length > 0 })
      return renderChatTemplate(chosen, { ...rest, specialTokens: specialTexts })
    },
    encodeChat: (options) => self.encode(self.renderChat(options), { addSpecialTokens: false }),
  }
  return self
}

function modelTypeOf(model: Json): 'BPE' | 'Unigram' {
  const type = model['type']
  if (type === 'BPE' || type === 'Unigram') return type
  // Files older than tokenizers 0.10 leave the type out; merges only exist in BPE.
  if (type === undefined && Array.isArray(model['merges'])) return 'BPE'
  throw new LatheError(
    'tokenizer.invalid',
    `tokenizer.json has a ${JSON.stringify(type)?.slice(0, 40) ?? 'nameless'} model.`,
    'Lathe runs decoder models with BPE or Unigram tokenizers; this is of another kind.',
  )
}

/** Token text by id; holes are undefined. */
function vocabularyOf(model: Json): (string | undefined)[] {
  const vocab = model['vocab']
  const texts: (string | undefined)[] = []
  if (Array.isArray(vocab)) {
    // Unigram: [text, score] in id order.
    for (const entry of vocab as unknown[]) {
      const [text, score] = Array.isArray(entry) ? (entry as unknown[]) : []
      if (typeof text !== 'string' || typeof score !== 'number')
        throw invalid('tokenizer.json has a vocabulary entry without text or score')
      texts.push(text)
    }
  } else if (isJsonObject(vocab)) {
    for (const [text, id] of Object.entries(vocab)) texts[tokenId(id)] = text
  } else throw invalid('tokenizer.json has no vocabulary')
  return texts
}

function tokenId(id: unknown): number {
  if (typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < MAX_TOKEN_ID) return id
  throw invalid(`tokenizer.json has the token id ${JSON.stringify(id)?.slice(0, 40)}`)
}

function addedTokensOf(list: unknown): readonly AddedToken[] {
  if (!Array.isArray(list)) throw invalid('tokenizer.json has added tokens that are not a list')
  return (list as unknown[]).map((entry) => {
    if (!isJsonObject(entry)) throw invalid('tokenizer.json has an added token that is not an object')
    const { content, special } = entry
    if (typeof content !== 'string' || content === '') throw invalid('tokenizer.json has an added token without text')
    return { id: tokenId(entry['id']), content, special: special === true }
  })
}

function isPair(merge: unknown): boolean {
  return Array.isArray(merge) && merge.length === 2 && merge.every((part) => typeof part === 'string')
}

function buildLibrary(tokenizer: Json, model: Json, type: 'BPE' | 'Unigram', added: readonly AddedToken[], config: Json): LibraryTokenizer {
  if (type === 'BPE') {
    const merges = model['merges']
    if (!Array.isArray(merges) || !(merges as unknown[]).every((merge) => typeof merge === 'string' || isPair(merge))) {
      throw invalid('tokenizer.json has merges that are not pairs')
    }
  }
  const section = (name: string): unknown => tokenizer[name] ?? null
  const rules = {
    normalizer: section('normalizer'),
    pre_tokenizer: section('pre_tokenizer'),
    post_processor: section('post_processor'),
    // Decoding is ours; a decoder that the library cannot build must not stop encoding.
    decoder: null,
    added_tokens: added.length === 0 ? [] : tokenizer['added_tokens'],
    model: { ...model, type },
  }
  // Only what changes how text is split; the rest of tokenizer_config.json stays out of the library.
  const settings = {
    remove_space: config['remove_space'] === true,
    do_lowercase_and_remove_accent: config['do_lowercase_and_remove_accent'] === true,
    eos_token: tokenText(config['eos_token']) ?? undefined,
  }
  try {
    return withTimeLimit(
      LOAD_LIMIT_MS,
      () => new LibraryTokenizer(rules, settings),
      () => invalid('tokenizer.json takes too long to load'),
    )
  } catch (error) {
    throw error instanceof LatheError ? error : libraryError('cannot be used', error)
  }
}

const ROLES = ['bos', 'eos', 'unk', 'pad', 'sep', 'cls', 'mask'] as const

function rolesOf(config: Json, specialMap: Json, idOf: ReadonlyMap<string, number>): SpecialToken[] {
  return ROLES.flatMap((role) => {
    const text = tokenText(config[`${role}_token`]) ?? tokenText(specialMap[`${role}_token`])
    const id = text === null ? undefined : idOf.get(text)
    return text === null || id === undefined ? [] : [{ role, id, text }]
  })
}

/** Special tokens are written as text or as {content, …}. */
function tokenText(value: unknown): string | null {
  if (typeof value === 'string') return value
  return isJsonObject(value) && typeof value['content'] === 'string' ? value['content'] : null
}

/**
 * Llama- and Gemma-class tokenizers follow `add_bos_token` of tokenizer_config.json whatever tokenizer.json's template says; transformers
 * rewrites the template when it loads them.
 */
function bosRuleOf(config: Json, bos: number | null, addsBos: boolean): 'keep' | 'prepend' | 'drop' {
  const rebuilt = /^(?:Code)?(?:Llama|Gemma)Tokenizer(?:Fast)?$/.test(String(config['tokenizer_class']))
  const wanted = config['add_bos_token']
  if (!rebuilt || typeof wanted !== 'boolean' || bos === null || wanted === addsBos) return 'keep'
  return wanted ? 'prepend' : 'drop'
}

function libraryError(what: string, cause: unknown): LatheError {
  const detail = cause instanceof Error ? cause.message.slice(0, 200) : String(cause)
  return new LatheError(
    'tokenizer.invalid',
    `tokenizer.json ${what}: ${detail}.`,
    'The file is damaged or of a kind that Lathe does not know.',
    { cause },
  )
}

function invalid(why: string): LatheError {
  return new LatheError('tokenizer.invalid', `${why}.`, 'Get the tokenizer files from the original model.')
}
