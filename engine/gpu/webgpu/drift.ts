/** Compares the logits of two executables' last steps on the device; see kernels/drift.wgsl. */
import { LatheError } from '../../contract/errors.ts'
import type { DriftRows } from '../program.ts'
import type { GpuDevice } from './device.ts'
import type { WebGpuExecutable } from './executable.ts'
import type { KernelCache } from './kernel.ts'
import type { LedgerAccount } from './ledger.ts'
import { readBuffer } from './readback.ts'

const RESULT_WORDS = 8
/** Small enough for every adapter, enough lanes for a long row. */
const WORKGROUP = 128

export async function runDrift(
  gpu: GpuDevice,
  kernels: KernelCache,
  account: LedgerAccount,
  baseline: WebGpuExecutable,
  candidate: WebGpuExecutable,
  rows: number,
  targets: Uint32Array,
): Promise<DriftRows> {
  const a = baseline.lastLogits()
  const b = candidate.lastLogits()
  const vocabulary = baseline.program.vocabulary
  const problem =
    a === null || b === null
      ? 'a model has not run a step'
      : candidate.program.vocabulary !== vocabulary
        ? `vocabularies differ (${vocabulary} and ${candidate.program.vocabulary})`
        : rows > a.rows || rows > b.rows
          ? `${rows} rows asked for, ${a.rows} and ${b.rows} computed`
          : targets.length !== rows
            ? `${targets.length} targets for ${rows} rows`
            : null
  if (problem !== null || a === null || b === null) {
    throw new LatheError('gpu.invalid-operation', `Logits cannot be compared: ${problem}.`, 'Run the same tokens through both models.')
  }
  const out = {
    kld: new Float32Array(rows),
    baselineArgmax: new Uint32Array(rows),
    candidateArgmax: new Uint32Array(rows),
    baselineTargetLogprob: new Float32Array(rows),
    candidateTargetLogprob: new Float32Array(rows),
  }
  if (rows === 0) return out
  const kernel = await kernels.get({
    name: 'drift',
    constants: { WORKGROUP, VOCABULARY: vocabulary, BASELINE_STRIDE: a.stride, CANDIDATE_STRIDE: b.stride },
    bindings: ['read', 'read', 'read', 'read', 'read', 'write'],
    immediateWords: 0,
  })
  try {
    const [targetBuffer, results] = await account.allocate([
      { name: 'drift targets', bytes: rows * 4, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST },
      { name: 'drift results', bytes: rows * RESULT_WORDS * 4, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC },
    ])
    if (targetBuffer === undefined || results === undefined) throw new Error('no buffers')
    gpu.device.queue.writeBuffer(targetBuffer, 0, targets as Uint32Array<ArrayBuffer>)
    const buffers = [a.logits, b.logits, a.rowFacts, b.rowFacts, targetBuffer, results].map((buffer) => ({ buffer }))
    const encoder = gpu.device.createCommandEncoder({ label: 'drift' })
    const pass = encoder.beginComputePass()
    pass.setPipeline(kernel.pipeline)
    pass.setBindGroup(0, kernels.bind(kernel, buffers))
    pass.dispatchWorkgroups(rows)
    pass.end()
    gpu.device.queue.submit([encoder.finish()])
    const data = await readBuffer(gpu, account, results, 0, rows * RESULT_WORDS * 4)
    gpu.check()
    const words = new Uint32Array(data)
    const floats = new Float32Array(data)
    for (let row = 0; row < rows; row++) {
      const at = row * RESULT_WORDS
      out.kld[row] = floats[at] ?? 0
      out.baselineArgmax[row] = words[at + 1] ?? 0
      out.candidateArgmax[row] = words[at + 2] ?? 0
      out.baselineTargetLogprob[row] = floats[at + 3] ?? 0
      out.candidateTargetLogprob[row] = floats[at + 4] ?? 0
    }
    return out
  } finally {
    account.release()
  }
}
