/** Reading numbers out of a config.json that may be anything: absent is null, wrong is an error that names the field. */
import { LatheError } from '../contract/errors.ts'

export type Config = Readonly<Record<string, unknown>>

export function wholeNumber(config: Config, key: string): number | null {
  const value = config[key]
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : null
}

/** The first of these keys that holds a positive whole number. */
export function required(config: Config, ...keys: readonly string[]): number {
  for (const key of keys) {
    const value = wholeNumber(config, key)
    if (value !== null) return value
  }
  throw new LatheError(
    'checkpoint.invalid-config',
    `config.json has no positive whole number under ${keys.map((key) => `"${key}"`).join(' or ')}.`,
    'Check that the folder holds the complete config.json of a decoder-only language model.',
  )
}

/** Vision wrappers keep the language model's numbers one level down. */
export function textConfigOf(config: Config): Config {
  for (const key of ['text_config', 'llm_config', 'language_config']) {
    const inner = config[key]
    if (typeof inner === 'object' && inner !== null && !Array.isArray(inner)) return inner as Config
  }
  return config
}

/** Routed experts per layer, under the names that families use. */
export function experts(config: Config): number | null {
  return wholeNumber(config, 'n_routed_experts') ?? wholeNumber(config, 'num_local_experts') ?? wholeNumber(config, 'num_experts')
}
