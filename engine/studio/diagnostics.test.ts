import { describe, expect, it } from 'vitest'
import { LogTail, redactHome } from './diagnostics.ts'

describe('the home folder', () => {
  it('is redacted wherever it appears, in either slash direction, and nothing else is', () => {
    expect(redactHome('/home/ada/models and /home/ada', '/home/ada')).toBe('~/models and ~')
    expect(redactHome(String.raw`C:\Users\Ada\x, C:/Users/Ada/y, "C:\\Users\\Ada\\z"`, String.raw`C:\Users\Ada`)).toBe(
      String.raw`~\x, ~/y, "~\\z"`,
    )
    expect(redactHome('/home/adam/models', '/home/ada')).toBe('/home/adam/models')
    expect(redactHome('/home/a.b', '/home/a.b')).toBe('~')
    expect(redactHome('/home/aXb', '/home/a.b')).toBe('/home/aXb')
    expect(redactHome('a/b', '/')).toBe('a/b')
  })
})

describe('the log tail', () => {
  it('passes everything on and keeps the newest lines', () => {
    const passed: string[] = []
    const tail = new LogTail((level, text) => passed.push(`${level} ${text}`))
    for (let line = 0; line < 250; line++) tail.log('info', `line ${line}`)
    expect(passed).toHaveLength(250)
    expect(tail.lines).toHaveLength(200)
    expect(tail.lines[0]).toMatch(/info: line 50$/)
    expect(tail.lines.at(-1)).toMatch(/info: line 249$/)
  })
})
