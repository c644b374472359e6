/**
 * The Python types that LLM Compressor's own recipe.yaml names: members of compressed-tensors' enums, which its YAML writer spells as
 * `!!python/object/apply:<class> [value]`. They mean the plain value and nothing else. No Python is run, and any other type is refused by name.
 */
import { isScalar, isSeq } from 'yaml'
import type { CollectionTag, Document, DocumentOptions, ParseOptions, SchemaOptions } from 'yaml'

/** Enums of strings that a recipe may hold (compressed_tensors.quantization.quant_args and quant_config), with their values. */
const ENUMS: Readonly<Record<string, readonly string[]>> = {
  ActivationOrdering: ['group', 'weight', 'dynamic', 'static'],
  DynamicType: ['local'],
  QuantizationStrategy: ['tensor', 'channel', 'group', 'block', 'token', 'tensor_group', 'attn_head'],
  QuantizationType: ['int', 'float'],
}
const MODULES = ['compressed_tensors.quantization.quant_args', 'compressed_tensors.quantization']
/** What `!!` stands for. */
const CORE = 'tag:yaml.org,2002:'
const APPLY = `${CORE}python/object/apply:`

const PYTHON_ENUM_TAGS: readonly CollectionTag[] = MODULES.flatMap((module) =>
  Object.entries(ENUMS).map(([name, values]): CollectionTag => ({
    tag: `${APPLY}${module}.${name}`,
    collection: 'seq',
    resolve(node, onError) {
      const [only, ...more] = isSeq(node) ? node.items : []
      const value: unknown = isScalar(only) ? only.value : null
      if (more.length > 0 || typeof value !== 'string' || !values.includes(value)) {
        onError(`${name} has no member like this; ${values.map((each) => `"${each}"`).join(', ')} are known`)
      }
      return value
    },
  })),
)

/** How every reader of recipes calls `parseDocument`. */
export const RECIPE_DOCUMENT: ParseOptions & DocumentOptions & SchemaOptions = {
  version: '1.1',
  uniqueKeys: true,
  customTags: [...PYTHON_ENUM_TAGS],
}

/** The first Python type of a document that is none of the above, as its file writes it ("python/object/apply:os.system"); null without one. */
export function foreignPythonType(document: Document.Parsed): string | null {
  for (const { code, message } of document.warnings) {
    if (code !== 'TAG_RESOLVE_FAILED') continue
    const tag = /(?:tag:yaml\.org,2002:|!!?)(python\/[^\s"',\]]{1,200})/.exec(message)?.[1]
    if (tag !== undefined) return tag
  }
  return null
}
