/** Where the running server is and how to call it: address, key, and calls to paste. The key is fetched when it is asked for, and not kept. */
import { useMutation } from '@tanstack/react-query'
import { Check, Copy, Eye, EyeOff } from 'lucide-react'
import { useState } from 'react'
import type { ServerView } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { useQueryChoice } from '../../lib/url-state.ts'
import { Button, IconButton } from '../../ui/button.tsx'
import { CodeBlock } from '../../ui/disclosure.tsx'
import { useHost } from '../../ui/host-context.tsx'
import { Card, Facts } from '../../ui/page.tsx'
import { Segmented } from '../../ui/tabs.tsx'
import styles from './server.module.css'
import { SNIPPET_KINDS, SNIPPET_TITLES, reachableUrl, snippet } from './snippets.ts'

export function AddressCard({ view }: { readonly view: ServerView }) {
  const { client } = useEngine()
  /** null = hidden. */
  const [shown, setShown] = useState<string | null>(null)
  const readKey = async (): Promise<string> => (await client.server.key()).apiKey ?? ''
  const toggle = useMutation({ mutationFn: async () => setShown(shown === null ? await readKey() : null) })
  const [kind, setKind] = useQueryChoice('snippet', SNIPPET_KINDS, 'curl')
  const url = reachableUrl(view.url ?? '')
  const code = snippet(kind, url, view.models[0]?.name ?? 'model')
  return (
    <Card title="How to call it">
      <div className={styles.stack}>
        <Facts
          rows={[
            [
              'Address',
              <span key="url" className={styles.value}>
                <code>{url}</code>
                <CopyButton what="address" text={async () => url} />
              </span>,
            ],
            [
              'API key',
              <span key="key" className={styles.value}>
                <code aria-label="API key">{shown ?? `${'•'.repeat(12)}${view.keyHint ?? ''}`}</code>
                <IconButton
                  size="small"
                  label={shown === null ? 'Show the key' : 'Hide the key'}
                  icon={shown === null ? Eye : EyeOff}
                  pressed={shown !== null}
                  onClick={() => toggle.mutate()}
                />
                <CopyButton what="key" text={readKey} />
              </span>,
            ],
          ]}
        />
        <div className={styles.bar}>
          <Segmented
            label="Language of the example"
            value={kind}
            onChange={setKind}
            options={SNIPPET_KINDS.map((value) => ({ value, title: SNIPPET_TITLES[value] }))}
          />
          <span className={styles.grow} />
          <CopyButton what="example" text={async () => code} />
        </div>
        <CodeBlock label={`Example in ${SNIPPET_TITLES[kind]}`}>{code}</CodeBlock>
        <p className={styles.quiet}>
          Put the key into LATHE_API_KEY. It answers OpenAI’s chat, responses, completions and embeddings, and Anthropic’s messages; figures
          are at /metrics.
        </p>
      </div>
    </Card>
  )
}

function CopyButton({ what, text }: { readonly what: string; readonly text: () => Promise<string> }) {
  const host = useHost()
  const [copied, setCopied] = useState(false)
  const copy = async (): Promise<void> => {
    await host.copyText(await text())
    setCopied(true)
  }
  return (
    <Button
      size="small"
      variant="ghost"
      icon={copied ? Check : Copy}
      aria-label={copied ? `The ${what} was copied` : `Copy the ${what}`}
      onClick={() => void copy()}
      onBlur={() => setCopied(false)}
    >
      {copied ? 'Copied' : 'Copy'}
    </Button>
  )
}
