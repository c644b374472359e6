/** Applies the theme setting and remembers the result for public/theme.js, which runs before the first paint of the next start. */
import { useEffect } from 'react'
import type { Settings } from '../../engine/contract/index.ts'

const ONE_YEAR_SECONDS = 31_536_000

export function useTheme(theme: Settings['theme'] | undefined): void {
  useEffect(() => {
    if (theme === undefined) return
    const systemDark = window.matchMedia('(prefers-color-scheme: dark)')
    const apply = () => {
      document.documentElement.dataset['theme'] = theme === 'system' ? (systemDark.matches ? 'dark' : 'light') : theme
    }
    apply()
    document.cookie =
      theme === 'system'
        ? 'lathe-theme=; path=/; SameSite=Strict; max-age=0'
        : `lathe-theme=${theme}; path=/; SameSite=Strict; max-age=${ONE_YEAR_SECONDS}`
    systemDark.addEventListener('change', apply)
    return () => systemDark.removeEventListener('change', apply)
  }, [theme])
}
