/** The studio over the real engine: what hosts call. They own the process; the studio owns everything behind the router. */
import { bindEngine } from './bind-engine.ts'
import { composeStudio } from './compose.ts'
import type { Studio, StudioOptions } from './compose.ts'

/** Throws `studio.in-use`, `studio.data-too-new` or `disk.*` when the data folder can't be used. */
export function createStudio(options: StudioOptions): Promise<Studio> {
  return composeStudio(options, bindEngine)
}
