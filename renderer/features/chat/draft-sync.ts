/**
 * Drafts outlive the window: the session's storage keeps them over a reload, the engine over a restart. What the session has is newer and wins; the
 * engine hears of a change once typing rests.
 */
import { useEffect } from 'react'
import type { EngineClient } from '../../rpc.ts'
import { useEngine } from '../../data/engine.tsx'
import { readDrafts, useDraftStore } from './chat-store.ts'

const REST_MS = 700

export function useDraftSync(): void {
  const { client } = useEngine()
  useEffect(() => {
    const stop = new AbortController()
    void restore(client, stop.signal)
    const save = saver(client)
    const unsubscribe = useDraftStore.subscribe((state, before) => {
      if (state.drafts !== before.drafts) save.later()
    })
    return () => {
      stop.abort()
      unsubscribe()
      save.now()
    }
  }, [client])
}

/** What the engine was told last, by client: another engine knows nothing yet. */
const told = new WeakMap<EngineClient, Map<string, string>>()

function toldTo(client: EngineClient): Map<string, string> {
  const known = told.get(client)
  if (known !== undefined) return known
  const fresh = new Map<string, string>()
  told.set(client, fresh)
  return fresh
}

async function restore(client: EngineClient, signal: AbortSignal): Promise<void> {
  try {
    const kept = await client.chat.drafts()
    if (signal.aborted) return
    const { drafts, setDraft } = readDrafts()
    for (const [key, text] of Object.entries(kept)) {
      toldTo(client).set(key, text)
      if (drafts[key] === undefined) setDraft(key, text)
    }
  } catch {
    // An engine that is away has its banner; what was typed here is still here.
  }
}

function saver(client: EngineClient): { readonly later: () => void; readonly now: () => void } {
  let timer: ReturnType<typeof setTimeout> | null = null
  const now = (): void => {
    if (timer !== null) clearTimeout(timer)
    timer = null
    const known = toldTo(client)
    const { drafts } = readDrafts()
    for (const key of new Set([...known.keys(), ...Object.keys(drafts)])) {
      const text = drafts[key] ?? ''
      if ((known.get(key) ?? '') === text) continue
      known.set(key, text)
      // Lost only if the window closes as well before the next change.
      client.chat.saveDraft({ key, text }).catch(() => known.delete(key))
    }
  }
  return {
    now,
    later: () => {
      if (timer !== null) clearTimeout(timer)
      timer = setTimeout(now, REST_MS)
    },
  }
}
