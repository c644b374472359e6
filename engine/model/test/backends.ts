/** The backends that the model suites run on: the reference and every software adapter this machine has, each with the tolerances it is held to. */
import { testBackends } from '../../gpu/test/adapters.ts'
import { createReferenceBackend } from '../../gpu/reference/backend.ts'
import type { Backend } from '../../gpu/program.ts'

/** The cache types that golden values are held to; quantized ones are measured, not golden. */
export type KvDtype = 'f16' | 'f32'

export interface ModelTestBackend {
  readonly name: string
  readonly open: () => Promise<Backend>
  /** Largest allowed difference from golden logits and log-probabilities, by KV dtype. */
  readonly tolerance: Readonly<Record<KvDtype, number>>
}

/**
 * f32: the golden values come from f64 and f32 implementations that agree to 5e-5; the reference is held to that order, kernels to 2e-3.
 * f16: keys and values rounded to 11 bits. The sharpest of the random models moves by 1.9e-2 from that alone, in f64.
 */
const TOLERANCE = {
  reference: { f32: 1e-4, f16: 3e-2 },
  webgpu: { f32: 2e-3, f16: 3e-2 },
} as const

/**
 * Milliseconds for one model test. On a machine whose cores are busy with other test files, software rasterisers wait at every dispatch for a
 * thread that is not scheduled, and a test of two seconds has been seen to take sixty.
 */
export const MODEL_TEST_TIMEOUT_MS = 300_000

export const MODEL_TEST_BACKENDS: readonly ModelTestBackend[] = [
  { name: 'reference', open: () => Promise.resolve(createReferenceBackend()), tolerance: TOLERANCE.reference },
  ...(await testBackends()).map(({ name, open }) => ({ name, open: () => open(), tolerance: TOLERANCE.webgpu })),
]
