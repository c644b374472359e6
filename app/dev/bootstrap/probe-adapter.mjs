// @ts-check
/**
 * Asks Dawn whether this machine has an adapter that it can use, and prints `{"adapter": name | null, "error": text | null}`.
 * A process of its own: the Vulkan loader reads its variables at start, and a broken driver may crash it.
 */
/** @type {{ adapter: string | null, error: string | null }} */
const answer = { adapter: null, error: null }
try {
  const { create } = await import('webgpu')
  // Kept on globalThis: when the instance is collected while an adapter lives, Dawn crashes (dawn-gpu/node-webgpu#18).
  const gpu = create([])
  Object.assign(globalThis, { gpu })
  const adapter = await gpu.requestAdapter()
  answer.adapter = adapter ? adapter.info.description || adapter.info.device || adapter.info.vendor || 'unnamed adapter' : null
} catch (error) {
  answer.error = error instanceof Error ? error.message : String(error)
}
process.stdout.write(`${JSON.stringify(answer)}\n`, () => process.exit(0))
