/** What the monitor shows: readings that grow while they are looked at, and the quality watches. */
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import type { MonitorReading, MonitorSample } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'

/** The engine scrapes when it is asked, so this is the rate of the samples. */
export const SAMPLE_MS = 2000
/** As many as the engine keeps: half an hour. */
const MOST_SAMPLES = 900

/** Samples that are known, followed by the newer ones; a gap in between stays a gap in time. */
export function joinSamples(known: readonly MonitorSample[], newer: readonly MonitorSample[]): MonitorSample[] {
  const last = known.at(-1)?.at ?? ''
  return [...known, ...newer.filter((sample) => sample.at > last)].slice(-MOST_SAMPLES)
}

export interface MonitorTarget {
  readonly url: string
  readonly apiKey: string | null
}

/** Reads every two seconds while shown; an error stays beside the samples that there are. */
export function useMonitor(target: MonitorTarget | null) {
  const { client } = useEngine()
  const cache = useQueryClient()
  const key = ['monitor', target?.url, target?.apiKey]
  return useQuery({
    queryKey: key,
    enabled: target !== null,
    refetchInterval: SAMPLE_MS,
    staleTime: 0,
    retry: false,
    queryFn: async ({ signal }): Promise<MonitorReading> => {
      const known = cache.getQueryData<MonitorReading>(key)?.samples ?? []
      const reading = await client.monitor.read(
        { url: target?.url ?? '', apiKey: target?.apiKey ?? null, after: known.at(-1)?.at ?? null },
        { signal },
      )
      return { ...reading, samples: joinSamples(known, reading.samples) }
    },
  })
}

export function useWatches() {
  const { queries } = useEngine()
  return useQuery(queries.monitor.watches.queryOptions())
}

export function useSetWatch() {
  const { client, queries } = useEngine()
  const cache = useQueryClient()
  return useMutation({
    mutationFn: (input: { readonly modelId: string; readonly everyHours: number | null }) => client.monitor.setWatch(input),
    onSuccess: (watches) => cache.setQueryData(queries.monitor.watches.queryKey(), watches),
  })
}
