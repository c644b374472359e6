/**
 * `lathe serve`: models behind the OpenAI-compatible server, until Ctrl-C. Prints one JSON line {url, api_key} on stdout when it accepts requests
 * (DESIGN §10), with or without --json, so that scripts can wait for it. The first model is loaded before that and stays; others are loaded when
 * they are asked for, and unloaded when nobody has asked for a while.
 */
import { KV_DTYPES, parseKvWish } from '../../../engine/gpu/kv-format.ts'
import { randomBytes } from 'node:crypto'
import { basename } from 'node:path'
import { SPECULATION_USAGE, parseSpeculation } from '../../../engine/runtime/speculation/parse.ts'
import { startServer } from '../../../engine/server/http-server.ts'
import { checkAddress, listenError } from '../../../engine/server/listening.ts'
import { createServedCollection } from '../../../engine/server/served-collection.ts'
import { loadTokenizer } from '../../../engine/tokenizer/tokenizer.ts'
import { latheVersion } from '../assets.ts'
import type { Arguments } from '../arguments.ts'
import type { Command } from '../command.ts'
import { estimateFit } from '../../../engine/studio/fit-estimate.ts'
import { planForFolder } from '../../../engine/studio/capacity.ts'
import { acquire, MATRIX_UNITS_OPTION, modelAt } from './with-model.ts'

/** vLLM's default, which clients' examples assume. */
const DEFAULT_PORT = 8000
const DEFAULT_CONTEXT = 4096
/** More than a desktop answers while anybody still waits. */
const DEFAULT_QUEUE = 256
const DEFAULT_IDLE_SECONDS = 900
/** Beyond this a step is longer than anybody wants to wait for a token. */
const MOST_PARALLEL = 64
/** Each holds the weights again. */
const MOST_PREFILL_ENGINES = 8

export const serve: Command = {
  usage: 'lathe serve <folder> [<folder>…] [--port N] [--api-key K] [--name NAME] [--context N] [--kv-dtype TYPE] [--speculate MODE]',
  summary: 'OpenAI-compatible server for one or more models, on 127.0.0.1',
  options: {
    port: { type: 'string', value: 'N', help: `port to listen on; 0 is any free one (${DEFAULT_PORT})` },
    host: { type: 'string', value: 'ADDRESS', help: 'address to listen on; others than 127.0.0.1 let the network in (127.0.0.1)' },
    'allow-host': { type: 'string', multiple: true, value: 'NAME', help: 'a host name under which clients reach this server' },
    'cors-origin': { type: 'string', multiple: true, value: 'ORIGIN', help: 'a web origin that browsers may call from (none)' },
    'api-key': { type: 'string', value: 'K', help: 'key that clients must send (a new random one)' },
    name: { type: 'string', multiple: true, value: 'NAME', help: 'model name for clients, once per folder (the folder’s name)' },
    alias: { type: 'string', multiple: true, value: 'NAME', help: 'another name for the first model' },
    context: { type: 'string', value: 'N', help: `tokens of context of one request (${DEFAULT_CONTEXT})` },
    'kv-dtype': {
      type: 'string',
      value: 'TYPE',
      help: `type of the KV cache: ${KV_DTYPES.join(', ')}, or keys/values like int8/int4 (what the checkpoint names, else f16)`,
    },
    speculate: { type: 'string', value: 'MODE', help: `speculative decoding: ${SPECULATION_USAGE}; answers stay the same (off)` },
    'prefill-engines': {
      type: 'string',
      value: 'N',
      help: 'read prompts in N runtimes of their own, each with the weights again; pays with --prefill-adapter only (0)',
    },
    'prefill-adapter': { type: 'string', value: 'NAME', help: 'the adapter that reads prompts (that of the answers)' },
    parallel: {
      type: 'string',
      value: 'N',
      help: 'requests answered at once, each with room for a whole context (8 that share the room of one)',
    },
    overlong: {
      type: 'string',
      value: 'POLICY',
      help: 'a max_tokens that the context has no room for: reject, or clamp to what fits (reject)',
    },
    ...MATRIX_UNITS_OPTION,
    'max-queue': {
      type: 'string',
      value: 'N',
      help: `requests that may wait before others get 429; the n choices of one are let in together (${DEFAULT_QUEUE})`,
    },
    'idle-unload': {
      type: 'string',
      value: 'SECONDS',
      help: `unload models after the first when idle this long; 0 never (${DEFAULT_IDLE_SECONDS})`,
    },
  },
  async run(args, context) {
    if (args.positionals.length === 0) throw args.invalid('The model folder is missing.')
    const port = args.integer('port', { min: 0, max: 65_535 }) ?? DEFAULT_PORT
    const kvWish = args.text('kv-dtype') ?? 'auto'
    const kvDtype = parseKvWish(kvWish)
    if (kvDtype === null)
      throw args.invalid(`--kv-dtype takes auto, ${KV_DTYPES.join(', ')} or two of them as keys/values, not "${kvWish}".`)
    const wish = args.text('speculate')
    const speculation = wish === null ? undefined : parseSpeculation(wish)
    const models = await Promise.all(args.positionals.map((folder) => modelAt(folder)))
    const apiKey = keyOf(args)
    const host = args.text('host') ?? '127.0.0.1'
    const contextTokens = args.integer('context', { min: 64 }) ?? DEFAULT_CONTEXT
    const disaggregation = disaggregationOf(args)
    const matrixUnits = args.flag('matrix-units')
    const readers = disaggregation?.prefillAdapter === null ? disaggregation.prefillEngines : 0
    const parallel = args.integer('parallel', { min: 1, max: MOST_PARALLEL })
    const overlong = args.text('overlong') ?? 'reject'
    if (overlong !== 'reject' && overlong !== 'clamp') throw args.invalid(`--overlong takes reject or clamp, not "${overlong}".`)
    const room = parallel === null ? {} : { maxSequences: parallel, kvTokens: parallel * contextTokens }
    const maxQueued = args.integer('max-queue', { min: 1 }) ?? DEFAULT_QUEUE
    const idleSeconds = args.number('idle-unload', { min: 0 }) ?? DEFAULT_IDLE_SECONDS
    const names = args.texts('name')
    if (names.length > models.length) throw args.invalid(`There are ${names.length} names for ${models.length} folders.`)
    const entries = models.map((model, index) => ({
      ...model,
      name: names[index] ?? basename(model.folder),
      aliases: index === 0 ? args.texts('alias') : [],
      pinned: index === 0,
    }))
    // Loading takes minutes; that nobody could reach the model is said before.
    await checkAddress({ host, port })
    const engine = await context.engine()
    await using served = createServedCollection(
      entries,
      {
        acquire: (entry, signal, onProgress) =>
          acquire(context, entry, {
            contextTokens,
            kvDtype,
            ...room,
            signal,
            onProgress,
            maxQueued,
            speculation,
            matrixUnits,
            disaggregation,
          }),
        unload: (entry) => engine.models.unload(entry.modelId),
        tokenizer: (entry) => loadTokenizer(entry.folder),
        fit: async (entry, _name, asked) =>
          entry === null
            ? null
            : estimateFit(
                {
                  modelId: entry.modelId,
                  models: engine.models,
                  usual: { contextTokens, kvDtype, concurrency: parallel },
                  plan: (request) => planForFolder(engine, entry, request, readers),
                },
                asked,
              ),
      },
      { idleMs: idleSeconds === 0 ? null : 1000 * idleSeconds, log: (level, text) => context.note(`${level}: ${text}`) },
    )
    await served.start(context.signal)
    const server = await startServer({
      models: served,
      apiKey,
      port,
      hostname: host,
      allowedHosts: args.texts('allow-host').map((name) => name.toLowerCase()),
      allowedOrigins: args.texts('cors-origin'),
      overlong,
      version: latheVersion(),
      log: (level, text) => context.note(`${level}: ${text}`),
    }).catch((error: unknown) => {
      throw listenError(error, { host, port })
    })
    try {
      const cards = served.cards().map((card) => card.name)
      context.announce({ url: server.url, api_key: apiKey, model: cards[0], models: cards })
      context.note(`serving ${cards.join(', ')} at ${server.url}${matrixUnits ? ' with matrix units' : ''} (Ctrl-C stops)`)
      await aborted(context.signal)
    } finally {
      await server.close()
    }
    return null
  },
}

/** An empty key would let everybody in: it is what an unset variable of a shell comes to. */
function keyOf(args: Arguments): string {
  const key = args.text('api-key')
  if (key === null) return randomBytes(24).toString('base64url')
  if (key === '' || /[^\x21-\x7e]/.test(key))
    throw args.invalid(
      '--api-key is empty, or holds what no header can carry.',
      'Use printable ASCII without spaces, or leave the option out for a random key.',
    )
  return key
}

/** An adapter of its own means one engine on it, unless it says how many. */
function disaggregationOf(args: Arguments): { readonly prefillEngines: number; readonly prefillAdapter: string | null } | undefined {
  const prefillAdapter = args.text('prefill-adapter')
  const prefillEngines = args.integer('prefill-engines', { min: 0, max: MOST_PREFILL_ENGINES }) ?? (prefillAdapter === null ? 0 : 1)
  if (prefillEngines > 0) return { prefillEngines, prefillAdapter }
  if (prefillAdapter !== null) throw args.invalid('--prefill-adapter needs at least one of --prefill-engines.')
  return undefined
}

function aborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  if (signal.aborted) resolve()
  else signal.addEventListener('abort', () => resolve(), { once: true })
  return promise
}
