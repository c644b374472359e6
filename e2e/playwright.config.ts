/**
 * Every spec runs against the real engine through the `studio` fixture, in two projects: `browser` (the system's Chromium) and `electron` (the window,
 * where its binary is installed; elsewhere each test is reported as skipped, with the reason).
 */
import { join } from 'node:path'
import { defineConfig } from '@playwright/test'
import type { StudioOptions } from './fixtures.ts'

const root = join(import.meta.dirname, '..')

export default defineConfig<StudioOptions>({
  testDir: '.',
  testMatch: '**/*.spec.ts',
  outputDir: join(root, 'test-results/e2e'),
  // One engine at a time: a software GPU takes every core there is.
  workers: 1,
  fullyParallel: false,
  retries: 0,
  forbidOnly: process.env['CI'] !== undefined,
  timeout: 120_000,
  expect: { timeout: 15_000 },
  reporter: [['list'], ['json', { outputFile: join(root, 'test-results/reports/playwright.json') }]],
  // An action that cannot be done fails by itself instead of eating the whole test's time.
  use: { actionTimeout: 20_000, trace: 'retain-on-failure', screenshot: 'only-on-failure', viewport: { width: 1280, height: 800 } },
  projects: [
    { name: 'browser', use: { shell: 'browser' } },
    { name: 'electron', use: { shell: 'electron' } },
  ],
})
