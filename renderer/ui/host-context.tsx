/** Gives components the Host without importing the window. */
import { createContext, use } from 'react'
import type { Host } from '../host.ts'

export const HostContext = createContext<Host | null>(null)

export function useHost(): Host {
  const host = use(HostContext)
  if (host === null) throw new Error('useHost needs a HostContext above it')
  return host
}
