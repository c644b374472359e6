/** The server as its screen shows it: models and requests of engine/server in the contract's words. */
import type { LiveServerRequest, ServedModelInfo } from '../contract/index.ts'
import { DEFAULT_BLOCK_SIZE } from '../model/memory.ts'
import type { SpeculationTelemetry } from '../runtime/types.ts'
import type { LiveRequest } from '../server/live-requests.ts'
import type { ServedModelStatus } from '../server/served-model.ts'

export function servedInfo(
  modelId: string,
  name: string,
  status: ServedModelStatus | undefined,
  speculation: SpeculationTelemetry | undefined,
): ServedModelInfo {
  return {
    modelId,
    name,
    loaded: status?.state === 'loaded',
    contextLimit: status?.contextLimit ?? null,
    kvDtype: status?.cache?.kvDtype ?? null,
    kvNamedByCheckpoint: status?.cache?.namedByCheckpoint ?? false,
    pinned: status?.pinned ?? false,
    inUse: status?.inUse ?? 0,
    bytes: status === undefined || status.bytes === null ? null : { ...status.bytes },
    unloadAt: isoOrNull(status?.unloadAt ?? null),
    loading: status === undefined || status.loading === null ? null : { ...status.loading },
    speculation:
      speculation === undefined
        ? null
        : { proposed: speculation.draftTokens, accepted: speculation.acceptedTokens, active: speculation.active },
  }
}

export function liveRequest(request: LiveRequest): LiveServerRequest {
  const { finishReason, startedAt, endedAt, promptTokens, prefilledTokens, generatedTokens, cacheMiss, ...rest } = request
  const held = endedAt === null ? Math.min(promptTokens, prefilledTokens) + generatedTokens : 0
  return {
    ...rest,
    promptTokens,
    prefilledTokens,
    generatedTokens,
    startedAt: new Date(startedAt).toISOString(),
    endedAt: isoOrNull(endedAt),
    blocks: Math.ceil(held / DEFAULT_BLOCK_SIZE),
    reason: finishReason,
    cacheMiss: cacheMiss === null ? null : { ...cacheMiss },
  }
}

function isoOrNull(milliseconds: number | null): string | null {
  return milliseconds === null ? null : new Date(milliseconds).toISOString()
}
