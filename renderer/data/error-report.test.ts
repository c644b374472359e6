import { expect, test } from 'vitest'
import { errorReport } from './error-report.ts'

test.each([
  ['/home/ada/models/x', '~/models/x'],
  ['/Users/Ada/x', '~/x'],
  ['C:\\Users\\Ada\\x', '~\\\\x'],
  ['/mnt/models/x', '/mnt/models/x'],
])('%s is copied as %s', (path, redacted) => {
  const report = errorReport({ code: 'disk.io', message: `Cannot read ${path}.`, hint: '' }, 'Lathe 0.1.0\n')
  expect(report).toBe(`{\n  "code": "disk.io",\n  "message": "Cannot read ${redacted}.",\n  "hint": ""\n}\n\nLathe 0.1.0\n`)
})
