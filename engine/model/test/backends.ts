/** The backends that the numeric suites run on, each with the tolerances that its arithmetic earns. */
import { createReferenceBackend } from '../../gpu/reference/backend.ts'
import type { Backend } from '../../gpu/program.ts'
import type { KvDtype } from '../memory.ts'

export interface TestBackend {
  readonly name: string
  /** null where the machine does not have it; the reason has been printed. */
  readonly create: () => Promise<Backend | null>
  /** Largest allowed difference from golden logits and log-probabilities, by KV dtype. */
  readonly tolerance: Readonly<Record<KvDtype, number>>
}

/**
 * f32: the golden values come from f64 and f32 implementations that agree to 5e-5; the reference is held to that order, kernels to 2e-3.
 * f16: keys and values rounded to 11 bits. The sharpest of the random models moves by 1.9e-2 from that alone, in f64.
 */
const REFERENCE_TOLERANCE = { f32: 1e-4, f16: 3e-2 } as const

export const TEST_BACKENDS: readonly TestBackend[] = [
  { name: 'reference', create: () => Promise.resolve(createReferenceBackend()), tolerance: REFERENCE_TOLERANCE },
]
