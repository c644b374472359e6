/** Ready-made calls of the server, to paste into a terminal or a program. The key is named, not shown: what is pasted is often shared. */

export const SNIPPET_KINDS = ['curl', 'python', 'javascript', 'responses'] as const
export type SnippetKind = (typeof SNIPPET_KINDS)[number]

export const SNIPPET_TITLES: Readonly<Record<SnippetKind, string>> = {
  curl: 'curl',
  python: 'Python',
  javascript: 'JavaScript',
  responses: 'Responses API',
}

export function snippet(kind: SnippetKind, url: string, model: string): string {
  switch (kind) {
    case 'curl':
      return `curl ${url}/chat/completions \\
  -H "Authorization: Bearer $LATHE_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{"model": "${model}", "messages": [{"role": "user", "content": "Hello!"}]}'`
    case 'python':
      return `import os
from openai import OpenAI

client = OpenAI(base_url="${url}", api_key=os.environ["LATHE_API_KEY"])
answer = client.chat.completions.create(
    model="${model}",
    messages=[{"role": "user", "content": "Hello!"}],
)
print(answer.choices[0].message.content)`
    case 'javascript':
      return `import OpenAI from 'openai'

const client = new OpenAI({ baseURL: '${url}', apiKey: process.env.LATHE_API_KEY })
const stream = await client.chat.completions.create({
  model: '${model}',
  messages: [{ role: 'user', content: 'Hello!' }],
  stream: true,
})
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? '')`
    case 'responses':
      return `import os
from openai import OpenAI

client = OpenAI(base_url="${url}", api_key=os.environ["LATHE_API_KEY"])
answer = client.responses.create(model="${model}", input="Hello!", store=False)
print(answer.output_text)`
  }
}

/** A client on this machine can't reach 0.0.0.0, which only means "every address". */
export function reachableUrl(url: string): string {
  return url.replace('//0.0.0.0:', '//127.0.0.1:').replace('//[::]:', '//127.0.0.1:')
}
