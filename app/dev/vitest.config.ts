/**
 * One vitest configuration, two projects: `engine` runs in plain Node forks (dawn.node must not share a process with a worker pool,
 * specs/dawn-node.md §5), `renderer` in a simulated DOM.
 */
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const root = fileURLToPath(new URL('../..', import.meta.url))

export default defineConfig({
  root,
  test: {
    // At least two: on two cores the default is one, and most files spend their time in a single thread.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    projects: [
      {
        root,
        test: {
          name: 'engine',
          include: ['engine/**/*.test.ts', 'app/**/*.test.ts'],
          pool: 'forks',
          environment: 'node',
          // Ten times what the slowest takes on two quiet cores: software drivers compile shaders on whatever time is left.
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
      {
        root,
        // A screen takes a second on a quiet machine and ten on two cores that compile something else.
        test: { name: 'renderer', include: ['renderer/**/*.test.{ts,tsx}'], environment: 'happy-dom', testTimeout: 120_000 },
      },
    ],
  },
})
