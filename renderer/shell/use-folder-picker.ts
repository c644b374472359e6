/** Asks for a folder: with the system's dialog on the desktop, with the engine's folder browser in a browser tab. null = the user changed their mind. */
import { useCallback } from 'react'
import { useHost } from '../ui/host-context.tsx'
import { useViewStore, type FolderRequest } from './view-store.ts'

export function useFolderPicker(): (request: Omit<FolderRequest, 'resolve'>) => Promise<string | null> {
  const host = useHost()
  const requestFolder = useViewStore((state) => state.requestFolder)
  return useCallback((request) => (host.pickFolder === null ? requestFolder(request) : host.pickFolder()), [host, requestFolder])
}
