/** The tokenizer port over engine/tokenizer, with the few most recent tokenizers kept: each costs tens of megabytes and a second to load. */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Tokenization } from '../../contract/index.ts'
import { loadTokenizer } from '../../tokenizer/tokenizer.ts'
import type { Tokenizer } from '../../tokenizer/tokenizer.ts'
import type { FolderTokenizer, TokenizerPort } from '../ports.ts'

/** A source, its variants share one vocabulary but not one folder; chat, evaluation and the inspector use a handful at a time. */
const KEPT = 4

const SIDE_FILES = ['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'chat_template.jinja']

export class TokenizerBinding implements TokenizerPort {
  /** By folder and the files' times, least recently used first. Promises, so that two callers share one load. */
  readonly #kept = new Map<string, Promise<FolderTokenizer>>()

  async open(folder: string): Promise<FolderTokenizer> {
    const key = await versionOf(folder)
    const known = this.#kept.get(key)
    if (known !== undefined) {
      this.#kept.delete(key)
      this.#kept.set(key, known)
      return known
    }
    const loading = loadTokenizer(folder).then(toFolderTokenizer)
    this.#kept.set(key, loading)
    // a failure is not kept: the user may repair the folder and try again
    loading.catch(() => this.#kept.delete(key))
    const [oldest] = this.#kept.keys()
    if (this.#kept.size > KEPT && oldest !== undefined) this.#kept.delete(oldest)
    return loading
  }
}

async function versionOf(folder: string): Promise<string> {
  const times = await Promise.all(
    SIDE_FILES.map((name) =>
      stat(join(folder, name)).then(
        (info) => `${info.mtimeMs}:${info.size}`,
        () => 'absent',
      ),
    ),
  )
  return [folder, ...times].join('|')
}

function toFolderTokenizer(tokenizer: Tokenizer): FolderTokenizer {
  return {
    bosTokenId: tokenizer.bosTokenId,
    eosTokenId: tokenizer.eosTokenId,
    encode: (text, options) => tokenizer.encode(text, options),
    tokenBytes: (id) => tokenizer.tokenBytes(id),
    decode: (ids) => tokenizer.decode(ids, { skipSpecialTokens: false }),
    info: {
      vocabSize: tokenizer.vocabSize,
      kind: tokenizer.kind,
      specialTokens: tokenizer.specialTokens.map((token) => ({ ...token })),
      chatTemplate: tokenizer.chatTemplates.get('default') ?? tokenizer.chatTemplates.values().next().value ?? null,
    },
    tokenize: (text) => tokenize(tokenizer, text),
    renderChat: (messages) => tokenizer.renderChat({ messages: messages.map((message) => ({ ...message })), addGenerationPrompt: true }),
  }
}

/** What each token adds to the text; a token that holds part of a character shows its bytes. */
function tokenize(tokenizer: Tokenizer, text: string): Tokenization {
  const strict = new TextDecoder('utf-8', { fatal: true })
  const ids = tokenizer.encode(text, { addSpecialTokens: false })
  return {
    tokens: Array.from(ids, (id) => {
      const bytes = tokenizer.tokenBytes(id)
      let piece: string
      try {
        piece = strict.decode(bytes)
      } catch {
        // part of a character: there is no text to show
        piece = Array.from(bytes, (byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`).join('')
      }
      return { id, text: piece === '' ? (tokenizer.tokenText(id) ?? '') : piece, special: tokenizer.isSpecial(id) }
    }),
    characters: [...text].length,
    bytes: Buffer.byteLength(text),
  }
}
