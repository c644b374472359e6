/**
 * A checkpoint as the rest of Lathe sees it: named tensors with ranged reads, and parsed side files. Implementations check every
 * count, offset and name before handing one of these out, so consumers may trust shapes, dtypes and lengths (not values).
 * Nothing here knows what a layer or an architecture is.
 */

/** safetensors dtype strings that Lathe reads. */
export type StoredDtype =
  | 'F64'
  | 'F32'
  | 'F16'
  | 'BF16'
  | 'F8_E4M3'
  | 'F8_E5M2'
  | 'F8_E8M0'
  | 'I64'
  | 'I32'
  | 'I16'
  | 'I8'
  | 'U64'
  | 'U32'
  | 'U16'
  | 'U8'
  | 'BOOL'

export interface TensorEntry {
  readonly name: string
  readonly dtype: StoredDtype
  readonly shape: readonly number[]
  /** Product of shape × dtype size; verified against the file. */
  readonly byteLength: number
  /** File name inside the folder (never a path). */
  readonly file: string
}

/** Bytes that can be read in ranges without holding all of them. `offset + length ≤ byteLength`, else RangeError. */
export interface ByteSource {
  readonly byteLength: number
  /** `into` lends memory of at least `length` bytes; a source may use it or not, so only what is returned counts. */
  read(offset: number, length: number, into?: Uint8Array): Promise<Uint8Array>
}

/** One entry of `quantization_config.config_groups[*].weights`; see specs/compressed-tensors.md §2.3. */
export interface QuantizationArgs {
  readonly numBits: number
  readonly type: 'int' | 'float'
  readonly symmetric: boolean
  readonly strategy: 'tensor' | 'channel' | 'group' | 'block' | 'token' | 'tensor_group' | 'attn_head'
  readonly groupSize: number | null
  readonly blockStructure: readonly [number, number] | null
  readonly dynamic: boolean | 'local'
  readonly actorder: 'group' | 'weight' | null
  readonly scaleDtype: string | null
  /** How the values were chosen, for the record; null or absent = the format's usual one. */
  readonly observer?: string | null
}

export interface QuantizationGroup {
  readonly name: string
  readonly targets: readonly string[]
  readonly weights: QuantizationArgs | null
  readonly inputActivations: QuantizationArgs | null
  /** Absent = null. */
  readonly outputActivations?: QuantizationArgs | null
  /** The group's own format, or the top-level one where it has none. */
  readonly format: string
}

/** A parsed, validated compressed-tensors `quantization_config`. */
export interface QuantizationConfig {
  readonly format: string
  readonly groups: readonly QuantizationGroup[]
  readonly ignore: readonly string[]
  /** Of the KV cache; absent = null. */
  readonly keyValueScheme?: QuantizationArgs | null
}

export interface Checkpoint extends AsyncDisposable {
  readonly folder: string
  /** config.json as parsed, never trusted: use the readers in `hf-config.ts` for typed fields. */
  readonly config: Readonly<Record<string, unknown>>
  readonly generationConfig: Readonly<Record<string, unknown>> | null
  readonly quantization: QuantizationConfig | null
  readonly tensors: ReadonlyMap<string, TensorEntry>
  /** The `__metadata__` of every safetensors file, merged (first file wins). Some writers note shared tensors here. */
  readonly metadata: ReadonlyMap<string, string>
  /** Every regular file in the folder (no symlinks leading out), name and size. */
  readonly files: readonly { readonly name: string; readonly bytes: number }[]
  /** Ranged access to one tensor's bytes. Throws `checkpoint.missing-tensor`; reads may fail with `disk.io`. */
  open(name: string): ByteSource
}
