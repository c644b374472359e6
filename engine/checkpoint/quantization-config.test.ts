import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { ErrorCode } from '../contract/errors.ts'
import { parseQuantizationConfig, quantizationOf, schemeFor, serializeQuantizationConfig } from './quantization-config.ts'
import { latheError, sharedData } from './test/fixtures.ts'
import type { QuantizationArgs, QuantizationConfig, QuantizationGroup } from './types.ts'

/** The minimal complete example of specs/compressed-tensors.md §2.6, verbatim. */
const W4A16_TEXT = `{
  "config_groups": {"group_0": {
    "format": "pack-quantized", "targets": ["Linear"],
    "input_activations": null, "output_activations": null,
    "weights": {"actorder": null, "block_structure": null, "dynamic": false, "group_size": 128,
      "num_bits": 4, "observer": "memoryless_minmax", "observer_kwargs": {}, "scale_dtype": null,
      "strategy": "group", "symmetric": true, "type": "int", "zp_dtype": null}}},
  "format": "pack-quantized", "global_compression_ratio": null, "ignore": ["lm_head"],
  "kv_cache_scheme": null, "quant_method": "compressed-tensors", "quantization_status": "compressed",
  "sparsity_config": {}, "transform_config": {}, "version": "0.18.0"
}`
const W4A16 = JSON.parse(W4A16_TEXT) as Record<string, unknown>

const ARGS: QuantizationArgs = {
  numBits: 4,
  type: 'int',
  symmetric: true,
  strategy: 'group',
  groupSize: 128,
  blockStructure: null,
  dynamic: false,
  actorder: null,
  scaleDtype: null,
}

function group(name: string, targets: readonly string[], weights: QuantizationArgs = ARGS): QuantizationGroup {
  return { name, targets, weights, inputActivations: null, format: 'pack-quantized' }
}

function config(groups: readonly QuantizationGroup[], ignore: readonly string[] = []): QuantizationConfig {
  return { format: 'pack-quantized', groups, ignore }
}

/** The example with its args changed. */
function withArgs(change: Record<string, unknown>): unknown {
  const raw = structuredClone(W4A16) as { config_groups: { group_0: { weights: Record<string, unknown> } } }
  Object.assign(raw.config_groups.group_0.weights, change)
  return raw
}

function weightsOf(change: Record<string, unknown>): QuantizationArgs | null {
  const groups = { g: { targets: ['Linear'], weights: change } }
  return parseQuantizationConfig({ quant_method: 'compressed-tensors', format: 'int-quantized', config_groups: groups }).groups[0]!.weights
}

function nameOf(found: QuantizationGroup | null): string | null {
  return found?.name ?? null
}

describe('parse', () => {
  it('reads the minimal complete example', () => {
    expect(parseQuantizationConfig(W4A16)).toEqual({
      format: 'pack-quantized',
      ignore: ['lm_head'],
      keyValueScheme: null,
      groups: [
        {
          name: 'group_0',
          targets: ['Linear'],
          format: 'pack-quantized',
          inputActivations: null,
          outputActivations: null,
          weights: { ...ARGS, observer: 'memoryless_minmax' },
        },
      ],
    })
  })

  it('applies the defaults of §2.3 and the aliases', () => {
    expect(weightsOf({})).toMatchObject({ numBits: 8, type: 'int', symmetric: true, strategy: 'tensor', dynamic: false, actorder: null })
    expect(weightsOf({ group_size: 64 })).toMatchObject({ strategy: 'group', groupSize: 64 })
    expect(weightsOf({ group_size: -1 })).toMatchObject({ strategy: 'channel', groupSize: null })
    expect(weightsOf({ group_size: 32, actorder: 'dynamic' })).toMatchObject({ actorder: 'group' })
    expect(weightsOf({ group_size: 32, actorder: 'static' })).toMatchObject({ actorder: 'weight' })
    expect(weightsOf({ strategy: 'block', block_structure: '128x64' })).toMatchObject({ blockStructure: [128, 64] })
  })

  it('ignores unknown keys at the top, and reads the older name of the object', () => {
    expect(parseQuantizationConfig({ ...W4A16, something_new: 1 }).groups.length).toBe(1)
    expect(quantizationOf({ compression_config: W4A16 })?.format).toBe('pack-quantized')
    expect([quantizationOf({}), quantizationOf({ quantization_config: null })]).toEqual([null, null])
  })

  it.each<[string, unknown, ErrorCode, RegExp]>([
    ['another method', { quant_method: 'awq' }, 'checkpoint.unsupported-scheme', /"awq"/],
    ['no object', 'compressed', 'checkpoint.invalid-config', /not an object/],
    [
      'a removed sparse format',
      { ...W4A16, sparsity_config: { format: 'sparse-24-bitmask' } },
      'checkpoint.unsupported-scheme',
      /sparse-24-bitmask/,
    ],
    ['rotations at run time', { ...W4A16, transform_config: { config_groups: { r: {} } } }, 'checkpoint.unsupported-scheme', /rotations/],
    ['marlin-24', { ...W4A16, format: 'marlin-24' }, 'checkpoint.unsupported-scheme', /marlin-24/],
    ['no groups', { quant_method: 'compressed-tensors' }, 'checkpoint.invalid-config', /config_groups/],
    ['the short form of a group', { ...W4A16, config_groups: { W4A16: ['Linear'] } }, 'checkpoint.unsupported-scheme', /short form/],
    [
      'mixed precision inside a group',
      { ...W4A16, config_groups: { g: { targets: ['Linear'], format: 'mixed-precision' } } },
      'checkpoint.invalid-config',
      /top level/,
    ],
    [
      'an unknown key in a group',
      { ...W4A16, config_groups: { g: { targets: ['Linear'], extra: 1 } } },
      'checkpoint.invalid-config',
      /"extra"/,
    ],
    ['an unknown key in args', withArgs({ lathe: true }), 'checkpoint.invalid-config', /"lathe"/],
    ['9 bits', withArgs({ num_bits: 9 }), 'checkpoint.invalid-config', /num_bits is 9/],
    ['a float of 3 bits', withArgs({ type: 'float', num_bits: 3 }), 'checkpoint.invalid-config', /4 or 8/],
    ['a group without a size', withArgs({ group_size: null }), 'checkpoint.invalid-config', /group_size/],
    ['a channel with a size', withArgs({ strategy: 'channel' }), 'checkpoint.invalid-config', /group_size is 128/],
    [
      'a block without structure',
      withArgs({ strategy: 'block', group_size: null }),
      'checkpoint.invalid-config',
      /block_structure is missing/,
    ],
    ['a negative size', withArgs({ group_size: -2 }), 'checkpoint.invalid-config', /group_size is -2/],
    ['a strategy of another world', withArgs({ strategy: 'galaxy' }), 'checkpoint.invalid-config', /galaxy/],
    ['static tokens', withArgs({ strategy: 'token', group_size: null }), 'checkpoint.invalid-config', /always dynamic/],
    ['dynamic channels', withArgs({ strategy: 'channel', group_size: null, dynamic: true }), 'checkpoint.invalid-config', /dynamic/],
    ['local groups', withArgs({ dynamic: 'local' }), 'checkpoint.invalid-config', /"local"/],
    [
      'activation order per channel',
      withArgs({ strategy: 'channel', group_size: null, actorder: 'group' }),
      'checkpoint.invalid-config',
      /actorder/,
    ],
    ['a pattern that is none', { ...W4A16, ignore: ['re:(unclosed'] }, 'checkpoint.invalid-config', /not a regular expression/],
    ['a pattern without end', { ...W4A16, ignore: ['re:' + 'a'.repeat(2000)] }, 'checkpoint.invalid-config', /characters/],
    ['an ignore entry that is no text', { ...W4A16, ignore: [7] }, 'checkpoint.invalid-config', /not a name/],
  ])('refuses %s', async (_, raw, code, message) => {
    expect((await latheError(() => parseQuantizationConfig(raw), code)).message).toMatch(message)
  })
})

describe('schemeFor', () => {
  it('asks ignore first: exact, or a pattern anchored at the start only', () => {
    const ignoring = config([group('g', ['Linear'])], ['lm_head', 're:.*gate'])
    expect(schemeFor(ignoring, 'lm_head', 'Linear')).toBeNull()
    // The trap of §2.4: without "$" the pattern also matches gate_proj.
    expect(schemeFor(ignoring, 'model.layers.0.mlp.gate_proj', 'Linear')).toBeNull()
    const anchored = config([group('g', ['Linear'])], ['re:.*\\.gate$'])
    expect(nameOf(schemeFor(anchored, 'model.layers.0.mlp.gate_proj', 'Linear'))).toBe('g')
    expect(schemeFor(anchored, 'model.layers.0.mlp.gate', 'Linear')).toBeNull()
    expect(nameOf(schemeFor(config([group('g', ['Linear'])], ['head']), 'lm_head', 'Linear'))).toBe('g')
  })

  it('prefers exact names to patterns to classes, over all groups', () => {
    const groups = [
      group('class', ['Linear']),
      group('pattern', ['re:model\\.layers\\..*down_proj']),
      group('exact', ['model.layers.0.mlp.down_proj']),
    ]
    const all = config(groups)
    expect(nameOf(schemeFor(all, 'model.layers.0.mlp.down_proj', 'Linear'))).toBe('exact')
    expect(nameOf(schemeFor(all, 'model.layers.1.mlp.down_proj', 'Linear'))).toBe('pattern')
    expect(nameOf(schemeFor(all, 'model.layers.1.mlp.up_proj', 'Linear'))).toBe('class')
  })

  it('matches classes as a case-insensitive substring, and nothing else', () => {
    const linear = config([group('g', ['linear'])])
    expect(nameOf(schemeFor(linear, 'x', 'QKVParallelLinear'))).toBe('g')
    expect(schemeFor(linear, 'model.embed_tokens', 'Embedding')).toBeNull()
  })

  it('understands the Python spellings of named groups and anchors', () => {
    expect(nameOf(schemeFor(config([group('g', ['re:\\Amodel\\.(?P<n>\\d+)\\.\\w+\\Z'])]), 'model.3.up', 'X'))).toBe('g')
  })

  it('gives up on a pattern that backtracks for ages', async () => {
    const slow = config([group('g', ['re:(a+)+$'])])
    const error = await latheError(() => schemeFor(slow, `${'a'.repeat(40)}!`, 'Linear'), 'checkpoint.invalid-config')
    expect(error.message).toMatch(/take over 1000 ms/)
  })
})

describe('serialize', () => {
  it('writes the minimal complete example', () => {
    const written = serializeQuantizationConfig(config([group('group_0', ['Linear'])], ['lm_head']))
    expect(written).toEqual(W4A16)
    // Sorted keys at every level, so that equal configs are equal bytes.
    const text = JSON.stringify(written)
    expect(text).toBe(JSON.stringify(sortKeys(written)))
  })

  it('writes a zero-point dtype exactly when asymmetric', () => {
    const written = serializeQuantizationConfig(config([group('group_0', ['Linear'], { ...ARGS, symmetric: false, groupSize: 32 })]))
    expect(written).toMatchObject({ config_groups: { group_0: { weights: { symmetric: false, zp_dtype: 'torch.int8', group_size: 32 } } } })
  })

  it('reads back what it wrote', () => {
    const blocks: QuantizationArgs = {
      ...ARGS,
      type: 'float',
      numBits: 8,
      strategy: 'block',
      groupSize: null,
      blockStructure: [128, 128],
      observer: 'mse',
    }
    const inputs: QuantizationArgs = { ...ARGS, type: 'float', numBits: 8, dynamic: true, observer: null }
    const groups: QuantizationGroup[] = [
      {
        name: 'group_0',
        targets: ['Linear'],
        weights: blocks,
        inputActivations: inputs,
        outputActivations: null,
        format: 'float-quantized',
      },
    ]
    const original: QuantizationConfig = { format: 'float-quantized', groups, ignore: ['lm_head'], keyValueScheme: null }
    expect(parseQuantizationConfig(serializeQuantizationConfig(original))).toEqual(original)
  })

  it('refuses two groups with one target, and what the parser would refuse', async () => {
    const twice = config([group('a', ['Linear']), group('b', ['Linear'])])
    expect((await latheError(() => serializeQuantizationConfig(twice), 'checkpoint.invalid-config')).message).toMatch(
      /both target "Linear"/,
    )
    const impossible = config([group('a', ['Linear'], { ...ARGS, groupSize: null })])
    expect((await latheError(() => serializeQuantizationConfig(impossible))).code).toBe('checkpoint.invalid-config')
  })

  const models = sharedData('models')
  it.skipIf(models === null).each(['gptq-w4a16-g128', 'rtn-w3-g64', 'fp8-dynamic', 'w8a8'])(
    'reproduces what LLM Compressor wrote for %s',
    async (name) => {
      const text = await readFile(join(models ?? '', `llmcompressor-${name}`, 'config.json'), 'utf8')
      const raw = (JSON.parse(text) as { quantization_config: Record<string, unknown> }).quantization_config
      const expected = JSON.parse(JSON.stringify(raw).replace('"actorder":"static"', '"actorder":"weight"')) as unknown
      expect(serializeQuantizationConfig(parseQuantizationConfig(raw))).toEqual(expected)
    },
  )
})

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).map(([key, inner]) => [key, sortKeys(inner)] as const)
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)))
}
