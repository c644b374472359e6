/**
 * Builds the page into dist/renderer: one script, one stylesheet, the fonts, nothing inlined, so that a CSP of 'self' is enough.
 * `--mode fake` builds the same page on the in-memory engine of test/fake-engine.ts into .build/fake, for looking at screens without an engine.
 */
import { fileURLToPath } from 'node:url'
import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'

const root = fileURLToPath(new URL('.', import.meta.url))

export default defineConfig(({ mode }) => ({
  root,
  base: '/',
  plugins: [react()],
  build: {
    outDir: fileURLToPath(new URL(mode === 'fake' ? '../.build/fake' : '../dist/renderer', import.meta.url)),
    emptyOutDir: true,
    target: 'es2023',
    // A data: font or image would need a wider CSP.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    cssCodeSplit: false,
    reportCompressedSize: false,
    chunkSizeWarningLimit: 4000,
    rollupOptions: { input: fileURLToPath(new URL(mode === 'fake' ? 'fake.html' : 'index.html', import.meta.url)) },
  },
  css: { modules: { localsConvention: 'camelCaseOnly' } },
}))
