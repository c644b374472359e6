/**
 * One vitest configuration, two projects: `engine` runs in plain Node forks (dawn.node must not share a process with a worker pool,
 * specs/dawn-node.md §5), `renderer` in a simulated DOM.
 */
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const root = fileURLToPath(new URL('../..', import.meta.url))

export default defineConfig({
  root,
  test: {
    projects: [
      {
        root,
        test: {
          name: 'engine',
          include: ['engine/**/*.test.ts', 'app/**/*.test.ts'],
          pool: 'forks',
          environment: 'node',
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      {
        root,
        // A screen takes a second on a quiet machine and ten on two cores that compile something else.
        test: { name: 'renderer', include: ['renderer/**/*.test.{ts,tsx}'], environment: 'happy-dom', testTimeout: 60_000 },
      },
    ],
  },
})
