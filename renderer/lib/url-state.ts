/** View state in the address, so that reload, back and deep links work. Small choices replace the history entry; moves to another place push one. */
import { useCallback } from 'react'
import { useSearchParams } from 'wouter'

/** One query parameter as text. Setting the default (or null) takes it out of the address. */
export function useQueryParameter(name: string, fallback = ''): [value: string, set: (value: string | null) => void] {
  const [parameters, setParameters] = useSearchParams()
  const set = useCallback(
    (value: string | null) =>
      setParameters(
        (previous) => {
          const next = new URLSearchParams(previous)
          if (value === null || value === fallback || value === '') next.delete(name)
          else next.set(name, value)
          return next
        },
        { replace: true },
      ),
    [name, fallback, setParameters],
  )
  return [parameters.get(name) ?? fallback, set]
}

/** One query parameter out of a fixed set; anything else in the address counts as the fallback. */
export function useQueryChoice<T extends string>(name: string, choices: readonly T[], fallback: T): [value: T, set: (value: T) => void] {
  const [raw, set] = useQueryParameter(name, fallback)
  const value = choices.find((choice) => choice === raw) ?? fallback
  return [value, set]
}

/** A set of ids, comma-separated. */
export function useQuerySet(name: string): [values: ReadonlySet<string>, set: (values: Iterable<string>) => void] {
  const [raw, setRaw] = useQueryParameter(name)
  const values = new Set(raw.split(',').filter((item) => item !== ''))
  const set = useCallback((next: Iterable<string>) => setRaw([...next].join(',')), [setRaw])
  return [values, set]
}
