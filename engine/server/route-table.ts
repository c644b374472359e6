/**
 * Which handler answers a method and a path. Knows what clients take for granted: HEAD where there is GET, a slash too many at the end, and paths
 * that end in a name (`GET /v1/models/*`). Knows nothing of what the handlers do.
 */
import { ApiError } from './api-error.ts'
import type { Handler } from './http-exchange.ts'

export interface RouteMatch {
  readonly handler: Handler
  /** What stands for the `*` at the end of the route, decoded; empty for others. */
  readonly rest: string
}

interface Methods {
  readonly wildcard: boolean
  readonly handlers: ReadonlyMap<string, Handler>
}

/** Throws ApiError 404 for paths that lead nowhere and 405, with what is allowed, for methods. */
export function routeTable(routes: Readonly<Record<string, Handler>>): (method: string, path: string) => RouteMatch {
  const table = new Map<string, Methods & { readonly handlers: Map<string, Handler> }>()
  for (const [route, handler] of Object.entries(routes)) {
    const [method = '', pattern = ''] = route.split(' ')
    const wildcard = pattern.endsWith('/*')
    const path = wildcard ? pattern.slice(0, -1) : pattern
    const methods = table.get(path) ?? { wildcard, handlers: new Map<string, Handler>() }
    methods.handlers.set(method, handler)
    if (method === 'GET') methods.handlers.set('HEAD', handler)
    table.set(path, methods)
  }
  return (method, asked) => {
    const path = asked.length > 1 ? asked.replace(/\/+$/, '') : asked
    const exact = table.get(path)
    const prefix = exact === undefined ? [...table].find(([start, { wildcard }]) => wildcard && path.startsWith(start)) : undefined
    const found = exact ?? prefix?.[1]
    if (found === undefined) throw new ApiError(404, `There is nothing at ${asked}.`)
    const handler = found.handlers.get(method)
    if (handler === undefined) {
      const allowed = [...found.handlers.keys()]
      throw new ApiError(405, `${path} answers ${allowed.filter((name) => name !== 'HEAD').join(' and ')} only.`, { allowed })
    }
    return { handler, rest: prefix === undefined ? '' : decoded(path.slice(prefix[0].length)) }
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch (cause) {
    throw new ApiError(400, `The path holds "${text}", which is not percent-encoded UTF-8.`, { cause })
  }
}
