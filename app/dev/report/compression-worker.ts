/** A process of compression-table.ts: opens one model on its own device and measures the rows it is sent, one at a time. */
import { join } from 'node:path'
import type { LossTable } from '../../../engine/compress/mixed-precision/scheme-map.ts'
import type { Recipe } from '../../../engine/compress/recipe.ts'
import { CompressionBench } from './compression-bench.ts'
import type { BenchOptions } from './compression-bench.ts'
import type { MeasuredRow } from './compression-file.ts'

export type Task =
  | { readonly kind: 'row'; readonly group: string; readonly name: string; readonly recipe: Recipe | null; readonly atOnce: number }
  | { readonly kind: 'losses'; readonly groupSize: number }

export interface Assignment {
  readonly bench: BenchOptions
  readonly task: Task
}

export type Answer =
  | { readonly kind: 'row'; readonly row: MeasuredRow }
  | { readonly kind: 'losses'; readonly table: LossTable; readonly seconds: number }
  | { readonly kind: 'failed'; readonly reason: string }

let bench: { readonly model: string; readonly open: CompressionBench } | null = null

async function answer({ bench: options, task }: Assignment): Promise<Answer> {
  try {
    if (bench?.model !== options.model) {
      await bench?.open[Symbol.asyncDispose]()
      bench = null
      bench = { model: options.model, open: await CompressionBench.open({ ...options, scratch: join(options.scratch, options.model) }) }
    }
    const { open } = bench
    if (task.kind === 'row') return { kind: 'row', row: await open.row(task.group, task.name, task.recipe, task.atOnce) }
    const started = performance.now()
    const table = await open.losses(task.groupSize, (done, total) => {
      if (done % 12 === 0) process.stderr.write(`${options.model}: loss ${done} of ${total}\n`)
    })
    return { kind: 'losses', table, seconds: (performance.now() - started) / 1000 }
  } catch (error) {
    return { kind: 'failed', reason: error instanceof Error ? error.message : String(error) }
  }
}

process.on('message', (assignment: Assignment) => {
  void answer(assignment).then((reply) => process.send?.(reply))
})
process.on('disconnect', () => {
  void (bench?.open[Symbol.asyncDispose]() ?? Promise.resolve()).finally(() => process.exit(0))
})
