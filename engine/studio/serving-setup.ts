/** From what somebody set up on the Server screen to what its loads are made with and called, or to the error that says what is wrong with it. */
import { LatheError } from '../contract/index.ts'
import type { ServerConfig } from '../contract/index.ts'
import { KV_DTYPES, parseKvWish } from '../gpu/kv-format.ts'
import type { KvWish } from '../gpu/kv-format.ts'
import type { Speculation } from '../runtime/types.ts'
import { servedName } from '../server/served-model.ts'
import type { ModelRef } from './ports.ts'

export interface LoadParts {
  /** Throws what keeps a model from running. */
  readonly resolve: (modelId: string) => Promise<ModelRef>
  readonly loadSettings: () => { readonly contextTokens: number; readonly kvDtype: KvWish; readonly matrixUnits: boolean }
}

/** What a load is made with, or the error that says what is wrong with the wish. */
export async function loadOptionsOf(config: ServerConfig, { resolve, loadSettings }: LoadParts) {
  const settings = loadSettings()
  const kvDtype = config.kvDtype === null ? settings.kvDtype : parseKvWish(config.kvDtype)
  if (kvDtype === null)
    throw new LatheError(
      'request.invalid',
      `There is no cache type "${config.kvDtype}".`,
      `Use auto, ${KV_DTYPES.join(', ')}, or two of them as keys/values.`,
    )
  const contextTokens = config.contextTokens ?? settings.contextTokens
  return {
    contextTokens,
    kvDtype,
    matrixUnits: settings.matrixUnits,
    ...(config.parallel !== null && { maxSequences: config.parallel, kvTokens: config.parallel * contextTokens }),
    speculation: await speculationOf(config.speculation, resolve),
  }
}

async function speculationOf(wish: ServerConfig['speculation'], resolve: LoadParts['resolve']): Promise<Speculation | undefined> {
  switch (wish.kind) {
    case 'off':
      return undefined
    case 'ngram':
      return { kind: 'ngram' }
    case 'draft':
      return { kind: 'draft', source: (await resolve(wish.modelId)).folder }
  }
}

/** Names as clients use them; two models of one name are told apart by a number. */
export function uniqueNames(names: readonly string[]): readonly string[] {
  const taken = new Set<string>()
  return names.map((name) => {
    const base = servedName(name.replaceAll('·', '-').replaceAll(/-?\s*-\s*-?/g, '-')) || 'model'
    let unique = base
    for (let number = 2; taken.has(unique); number++) unique = `${base}-${number}`
    taken.add(unique)
    return unique
  })
}
