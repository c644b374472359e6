/** Which way of adding to the board is open, in the address, so that a results file dropped anywhere on the screen opens its dialog. */
import { useCallback } from 'react'
import { useLocation, useSearchParams } from 'wouter'

const WAYS = ['server', 'file'] as const
export type AddWay = (typeof WAYS)[number]

export interface AddDialog {
  readonly open: AddWay | null
  /** Of a file that was dropped; empty where none was or the host does not know. */
  readonly path: string
  readonly show: (way: AddWay | null, path?: string) => void
}

export function useAddDialog(): AddDialog {
  const [parameters, setParameters] = useSearchParams()
  const show = useCallback(
    (way: AddWay | null, path = '') =>
      setParameters(
        (previous) => {
          const next = new URLSearchParams(previous)
          for (const [name, value] of [
            ['add', way ?? ''],
            ['file', path],
          ] as const) {
            if (value === '') next.delete(name)
            else next.set(name, value)
          }
          return next
        },
        { replace: true },
      ),
    [setParameters],
  )
  return { open: WAYS.find((way) => way === parameters.get('add')) ?? null, path: parameters.get('file') ?? '', show }
}

/** Takes dropped results files for the board that is open: true when it did. */
export function usePublishedDrop(): (items: readonly { readonly name: string; readonly path: string | null }[]) => boolean {
  const [location] = useLocation()
  const { show } = useAddDialog()
  return useCallback(
    (items) => {
      const [first] = items
      if (first === undefined || !location.startsWith('/compare/') || !items.every(({ name }) => name.endsWith('.json'))) return false
      show('file', first.path ?? '')
      return true
    },
    [location, show],
  )
}
