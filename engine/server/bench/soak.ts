/**
 * Mixed traffic against the server for a while: whole and streamed answers, schemas, tools, aborts at random moments, overlong prompts, bad JSON,
 * slow readers, oversize bodies. At the end blocks, requests and handles must be back where they were, every answer to a fixed prompt must have
 * been the same, and the lag of the event loop is printed. `node engine/server/bench/soak.ts [seconds] [seed] [--webgpu] [--speculate]`.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import OpenAI from 'openai'
import type { FromServer, MemorySample, ToServer } from './soak-server.ts'
import { verdict } from './memory-growth.ts'

const seconds = Number(process.argv[2] ?? 60)
let state = Number(process.argv[3] ?? 1)
const random = (): number => {
  state = (state + 0x6d2b79f5) | 0
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
}
const only = process.argv
  .find((argument) => argument.startsWith('--only='))
  ?.slice(7)
  .split(',')
const every = Number(process.argv.find((argument) => argument.startsWith('--every='))?.slice(8) ?? 60)
const flags = process.argv.slice(2).filter((argument) => argument === '--webgpu' || argument === '--speculate')
const child = fork(fileURLToPath(new URL('soak-server.ts', import.meta.url)), flags, { execArgv: ['--expose-gc'] })
const exited = once(child, 'exit')

/** The next message of that kind; rejects when the server's process ends instead. */
async function received<K extends FromServer['kind']>(kind: K): Promise<Extract<FromServer, { kind: K }>> {
  const { promise, resolve, reject } = Promise.withResolvers<Extract<FromServer, { kind: K }>>()
  const onMessage = (message: FromServer): void => {
    if (message.kind === kind) resolve(message as Extract<FromServer, { kind: K }>)
  }
  const onExit = (code: number | null): void => reject(new Error(`The server's process ended with ${code} before its ${kind}`))
  child.on('message', onMessage)
  child.once('exit', onExit)
  try {
    return await promise
  } finally {
    child.off('message', onMessage)
    child.off('exit', onExit)
  }
}

async function ask<K extends 'sample' | 'balance'>(kind: K): Promise<Extract<FromServer, { kind: K }>> {
  const answer = received(kind)
  child.send(kind)
  return answer
}

const server = await received('ready')
const client = new OpenAI({ apiKey: 'none', baseURL: server.url, maxRetries: 0, timeout: 120_000 })

const messages = [{ role: 'user' as const, content: 'What kind of pet does Gus have?' }]
const fixed = { model: 'demo', messages, temperature: 1, seed: 11, max_tokens: 24 }
const schema = {
  type: 'object',
  properties: { a: { type: 'integer', minimum: 3, maximum: 9 }, b: { type: 'string', maxLength: 4 } },
  required: ['a', 'b'],
}
const expected = (await client.chat.completions.create(fixed)).choices[0]?.message.content
/** Made once: the client shares the loop whose lag is measured. */
const OVERSIZE = Buffer.from(JSON.stringify({ model: 'demo', prompt: 'x'.repeat(17 * 2 ** 20) }))
const outcomes = new Map<string, number>()
const count = (name: string): void => void outcomes.set(name, (outcomes.get(name) ?? 0) + 1)

/** Each resolves with what happened, or throws for what must not. */
const kinds: Readonly<Record<string, () => Promise<string>>> = {
  fixed: async () => {
    const content = (await client.chat.completions.create(fixed)).choices[0]?.message.content
    if (content !== expected)
      throw new Error(`The fixed prompt was answered ${JSON.stringify(content)} instead of ${JSON.stringify(expected)}`)
    return 'same'
  },
  stream: async () => {
    const stream = await client.chat.completions.create({ ...fixed, stream: true })
    let content = ''
    for await (const chunk of stream) content += chunk.choices[0]?.delta.content ?? ''
    if (content !== expected) throw new Error(`The fixed prompt was streamed as ${JSON.stringify(content)}`)
    return 'same'
  },
  schema: async () => {
    const format = { type: 'json_schema' as const, json_schema: { name: 's', schema } }
    const choice = (await client.chat.completions.create({ model: 'demo', messages, max_tokens: 120, response_format: format })).choices[0]
    if (choice?.finish_reason !== 'stop') return 'cut off'
    const value = JSON.parse(choice.message.content ?? '') as { a: number; b: string }
    if (!(value.a >= 3 && value.a <= 9 && [...value.b].length <= 4)) throw new Error(`Not of its schema: ${JSON.stringify(value)}`)
    return 'valid'
  },
  abort: async () => {
    const controller = new AbortController()
    const pending = client.completions
      .create({ model: 'demo', prompt: 'word '.repeat(1 + Math.floor(random() * 200)), max_tokens: 200 }, { signal: controller.signal })
      .catch(() => null)
    await sleep(random() * 400)
    controller.abort()
    await pending
    return 'aborted'
  },
  leave: async () => {
    const stream = await client.completions.create({ model: 'demo', prompt: 'A story:', max_tokens: 200, stream: true })
    let left = Math.floor(random() * 8)
    for await (const _ of stream) if (left-- === 0) break
    return 'left'
  },
  overlong: async () => refused(() => client.completions.create({ model: 'demo', prompt: 'word '.repeat(2000) }), 400),
  badSchema: async () => refused(() => client.completions.create({ model: 'demo', prompt: 'x', guided_regex: '((' } as never), 400),
  badJson: async () => {
    const response = await fetch(`${server.url}/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"model":',
    })
    await response.body?.cancel()
    if (response.status !== 400) throw new Error(`Bad JSON was answered with ${response.status}`)
    return 'refused'
  },
  oversize: async () => {
    const status = await fetch(`${server.url}/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: OVERSIZE,
    }).then(
      (response) => response.status,
      () => 413, // the connection was closed while the body was still being sent
    )
    if (status !== 413) throw new Error(`An oversize body was answered with ${status}`)
    return 'refused'
  },
  slowReader: () =>
    new Promise((resolve, reject) => {
      const body = JSON.stringify({ model: 'demo', prompt: 'A long story:', max_tokens: 300, ignore_eos: true, stream: true })
      const socket = connect(server.port, '127.0.0.1', () => {
        socket.write(
          `POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
        )
        socket.pause()
        setTimeout(() => {
          socket.destroy()
          resolve('hung up')
        }, 2000)
      })
      socket.once('error', reject)
    }),
}

async function refused(call: () => Promise<unknown>, status: number): Promise<string> {
  const error = await call().then(
    () => null,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof OpenAI.APIError) || (error.status !== status && error.status !== 429))
    throw new Error(`Expected ${status}, got ${String(error)}`)
  return 'refused'
}

const names = only ?? Object.keys(kinds)
const wrong: string[] = []
let requests = 0
const samples: { readonly requests: number; readonly seconds: number; readonly memory: MemorySample }[] = []
const began = performance.now()
async function record(): Promise<void> {
  const { sample: memory } = await ask('sample')
  const at = { requests, seconds: Math.round((performance.now() - began) / 1000), memory }
  samples.push(at)
  console.log(
    `${at.seconds} s, ${requests} requests, MB: ${Object.entries(memory)
      .map(([name, value]) => `${name} ${value}`)
      .join(', ')}`,
  )
}
child.send('measure' satisfies ToServer)
await record()
const end = began + seconds * 1000
const recorder = setInterval(() => void record(), every * 1000)
const workers = Array.from({ length: 12 }, async () => {
  while (performance.now() < end) {
    const name = names[Math.floor(random() * names.length)] ?? 'fixed'
    try {
      count(`${name}: ${await kinds[name]?.()}`)
    } catch (error) {
      if (error instanceof OpenAI.RateLimitError) count(`${name}: 429`)
      else wrong.push(`${name}: ${String(error)}`)
    }
    requests++
  }
})
await Promise.all(workers)
clearInterval(recorder)
await record()
const { balance } = await ask('balance')
await exited
const { leftovers, lagMs, speculation, ...rest } = balance
console.log(Object.fromEntries([...outcomes].toSorted()))
if (speculation !== null) console.log({ speculation })
console.log({ seconds, leftovers, ...rest })
for (const line of verdict(samples)) console.log(line)
console.log(`event loop lag of the server p50 ${lagMs.p50.toFixed(1)} ms, p99 ${lagMs.p99.toFixed(1)} ms, max ${lagMs.most.toFixed(0)} ms`)
if (wrong.length > 0) console.log('WRONG', wrong.slice(0, 10), wrong.length)
const left = Object.values(leftovers).some((held) => held > 0) || rest.gpuBytesHeld > 0 || rest.handles.length > 0
process.exitCode = wrong.length > 0 || left ? 1 : 0
