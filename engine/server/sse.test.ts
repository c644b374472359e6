import { EventEmitter } from 'node:events'
import type { ServerResponse } from 'node:http'
import { afterEach, expect, test, vi } from 'vitest'
import { ApiError } from './api-error.ts'
import { EventStream } from './sse.ts'

/** A socket that is full until `drain`. */
class SlowResponse extends EventEmitter {
  readonly written: string[] = []
  full = false
  destroyed = false
  writableEnded = false
  writeHead(): this {
    return this
  }
  flushHeaders(): void {}
  write(text: string): boolean {
    this.written.push(text)
    return !this.full
  }
  end(): void {
    this.writableEnded = true
    this.emit('close')
  }
  destroy(): void {
    this.destroyed = true
    this.emit('close')
  }
}

function open(terminator: 'done' | 'none' = 'done') {
  const response = new SlowResponse()
  let drops = 0
  const stream = new EventStream(response as unknown as ServerResponse, () => drops++, terminator)
  return { response, stream, drops: () => drops }
}

test('what a full socket does not take waits, is joined, and goes out in order when it drains', () => {
  const { response, stream } = open()
  response.full = true
  stream.send(1)
  stream.send(2)
  stream.send(3)
  stream.end()
  expect([response.written, response.writableEnded]).toEqual([['data: 1\n\n'], false])
  response.full = false
  response.emit('drain')
  expect([response.written, response.writableEnded]).toEqual([['data: 1\n\n', 'data: 2\n\ndata: 3\n\ndata: [DONE]\n\n'], true])
})

afterEach(() => void vi.useRealTimers())

test('a silent stream says that it lives, until it ends', () => {
  vi.useFakeTimers()
  const { response, stream } = open()
  vi.advanceTimersByTime(25_000)
  expect(response.written).toEqual([': ping\n\n', ': ping\n\n'])
  stream.end()
  vi.advanceTimersByTime(60_000)
  expect(response.written.slice(2)).toEqual(['data: [DONE]\n\n'])
})

test('a reader that is hopelessly behind is dropped, once', () => {
  const { response, stream, drops } = open()
  response.full = true
  for (let i = 0; i < 10; i++) stream.send('x'.repeat(2 ** 20))
  expect([response.destroyed, drops(), response.written.length]).toEqual([true, 1, 1])
})

test('a failure travels in the words of the stream, and is its end', () => {
  const openai = open()
  openai.stream.fail(new ApiError(400, 'No.'))
  openai.stream.send('late')
  expect(openai.response.written).toEqual([
    'data: {"error":{"message":"No.","type":"BadRequestError","param":null,"code":400}}\n\n',
    'data: [DONE]\n\n',
  ])
  const anthropic = open('none')
  anthropic.stream.fail(new ApiError(429, 'Full.'))
  expect([anthropic.response.written, anthropic.response.writableEnded]).toEqual([
    ['event: error\ndata: {"type":"error","error":{"type":"rate_limit_error","message":"Full."}}\n\n'],
    true,
  ])
})
