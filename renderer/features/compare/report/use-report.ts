/** Collects what a report has beyond the board: how each variant was made. What can't be read is left out, the report is made nonetheless. */
import { useEngine } from '../../../data/engine.tsx'
import { toUiError } from '../../../lib/errors.ts'
import { showToast } from '../../../ui/toast.tsx'
import type { ReportInput } from './report.ts'

type Use = (input: ReportInput) => void

export function useReport(board: Omit<ReportInput, 'runs' | 'madeAt'>): (use: Use) => Promise<void> {
  const { client } = useEngine()
  return async (use) => {
    const made = board.entries.filter((entry) => entry.model.parentId !== null && entry.model.origin === 'folder')
    const runs = new Map<string, Readonly<Record<string, unknown>>>()
    const missing: string[] = []
    for (const { model } of made) {
      try {
        const { run } = await client.models.get({ modelId: model.id })
        if (run !== null) runs.set(model.id, run)
      } catch (error) {
        missing.push(`${model.name}: ${toUiError(error).message}`)
      }
    }
    use({ ...board, runs, madeAt: new Date().toISOString() })
    if (missing.length > 0) showToast({ title: 'The report lacks a recipe', description: missing.join(' ') })
  }
}
