/**
 * `lathe serve`: one model behind the OpenAI-compatible server, until Ctrl-C. Prints one JSON line {url, api_key} on stdout when it accepts requests
 * (DESIGN §10), with or without --json, so that scripts can wait for it.
 */
import { randomBytes } from 'node:crypto'
import { basename } from 'node:path'
import { LatheError } from '../../../engine/contract/index.ts'
import { startServer } from '../../../engine/server/http-server.ts'
import type { ServedModel, ServedModels } from '../../../engine/server/served-model.ts'
import { parseSpeculation, SPECULATION_USAGE } from '../../../engine/runtime/speculation/parse.ts'
import type { Runtime } from '../../../engine/runtime/types.ts'
import { loadTokenizer } from '../../../engine/tokenizer/tokenizer.ts'
import type { Tokenizer } from '../../../engine/tokenizer/tokenizer.ts'
import { latheVersion } from '../assets.ts'
import type { Command } from '../command.ts'
import { acquire, modelAt } from './with-model.ts'

/** vLLM's default, which clients' examples assume. */
const DEFAULT_PORT = 8000
const DEFAULT_CONTEXT = 4096

export const serve: Command = {
  usage: 'lathe serve <folder> [--port N] [--api-key K] [--name NAME] [--context N] [--kv-dtype f16|f32] [--speculate MODE]',
  summary: 'OpenAI-compatible server for one model, on 127.0.0.1',
  options: {
    port: { type: 'string', value: 'N', help: `port to listen on; 0 is any free one (${DEFAULT_PORT})` },
    'api-key': { type: 'string', value: 'K', help: 'key that clients must send (a new random one)' },
    name: { type: 'string', value: 'NAME', help: 'model name for clients (the folder’s name)' },
    context: { type: 'string', value: 'N', help: `tokens of context of one request (${DEFAULT_CONTEXT})` },
    'kv-dtype': { type: 'string', value: 'TYPE', help: 'type of the KV cache: f16 or f32 (f16)' },
    speculate: { type: 'string', value: 'MODE', help: `speculative decoding: ${SPECULATION_USAGE}; answers stay the same (off)` },
  },
  async run(args, context) {
    const model = await modelAt(args.onlyPositional('model folder'))
    const port = args.integer('port', { min: 0, max: 65_535 }) ?? DEFAULT_PORT
    const kvDtype = args.text('kv-dtype') ?? 'f16'
    if (kvDtype !== 'f16' && kvDtype !== 'f32') throw args.invalid(`--kv-dtype takes f16 or f32, not "${kvDtype}".`)
    const wish = args.text('speculate')
    const speculation = wish === null ? undefined : parseSpeculation(wish)
    const apiKey = args.text('api-key') ?? randomBytes(24).toString('base64url')
    const contextTokens = args.integer('context', { min: 64 }) ?? DEFAULT_CONTEXT
    const tokenizer = await loadTokenizer(model.folder)
    using lease = await acquire(context, model, { contextTokens, kvDtype, speculation })
    // Load tools split metric lines on spaces, so a name has none.
    const name = (args.text('name') ?? basename(model.folder)).trim().replaceAll(/\s+/g, '-')
    const server = await startServer({
      models: onlyModel(servedModel(name, lease.runtime, tokenizer)),
      apiKey,
      port,
      version: latheVersion(),
      log: (level, text) => context.note(`${level}: ${text}`),
    }).catch((error: unknown) => {
      throw listenError(error, port)
    })
    try {
      context.announce({ url: server.url, api_key: apiKey, model: name })
      context.note(`serving ${name} at ${server.url} (Ctrl-C stops)`)
      await aborted(context.signal)
    } finally {
      await server.close()
    }
    return null
  },
}

function aborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  if (signal.aborted) resolve()
  else signal.addEventListener('abort', () => resolve(), { once: true })
  return promise
}

function listenError(error: unknown, port: number): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : null
  if (code === 'EADDRINUSE') {
    return new LatheError('request.invalid', `Port ${port} is in use.`, `Use --port ${port + 1}, or --port 0 for any free one.`, {
      cause: error,
    })
  }
  if (code === 'EACCES') {
    return new LatheError('request.invalid', `Port ${port} may not be opened.`, 'Use a port above 1023.', { cause: error })
  }
  return error
}

function servedModel(name: string, runtime: Runtime, tokenizer: Tokenizer): ServedModel {
  return {
    name,
    created: Math.floor(Date.now() / 1000),
    runtime,
    tokenizer,
    renderChat: (messages, { addGenerationPrompt }) => tokenizer.renderChat({ messages, addGenerationPrompt }),
  }
}

function onlyModel(model: ServedModel): ServedModels {
  return {
    cards: () => [{ name: model.name, aliases: [], created: model.created, contextLimit: model.runtime.info.contextLimit }],
    // The command holds the one lease for as long as it runs.
    acquire: async (name) => (name === model.name ? { model, release: () => {} } : null),
  }
}
