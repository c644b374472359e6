/** A server over the echo model on a free port, and how to talk to it. */
import { startServer } from '../http-server.ts'
import type { RunningServer, ServerOptions } from '../http-server.ts'
import { createEchoRuntime, echoModel, serveOnly } from './echo-model.ts'
import type { EchoOptions } from './echo-model.ts'

export const KEY = 'secret-key'
const closing: (() => Promise<void>)[] = []

export async function startEcho(options: EchoOptions = {}, server: Partial<ServerOptions> = {}) {
  const runtime = createEchoRuntime(options)
  const model = echoModel(runtime, options)
  const models = serveOnly(model)
  const started: RunningServer = await startServer({ models, apiKey: KEY, port: 0, version: '0.0.0', log: () => {}, ...server })
  closing.push(async () => {
    await started.close()
    await model[Symbol.asyncDispose]()
  })
  const origin = `http://127.0.0.1:${started.port}`
  const call = (path: string, init: RequestInit = {}) =>
    fetch(origin + path, { ...init, headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json', ...init.headers } })
  const post = (path: string, body: unknown, init: RequestInit = {}) => call(path, { method: 'POST', body: JSON.stringify(body), ...init })
  return { runtime, model, models, server: started, origin, call, post }
}

export async function stopAll(): Promise<void> {
  await Promise.all(closing.splice(0).map((close) => close()))
}
