/** Where the running server is and how to call it: address, key, models, and calls to paste. */
import { Check, Copy, Eye, EyeOff } from 'lucide-react'
import { useState } from 'react'
import type { ServerView } from '../../../engine/contract/index.ts'
import { formatInteger } from '../../lib/format.ts'
import { useQueryChoice } from '../../lib/url-state.ts'
import { Badge } from '../../ui/badge.tsx'
import { Button, IconButton } from '../../ui/button.tsx'
import { CodeBlock } from '../../ui/disclosure.tsx'
import { useHost } from '../../ui/host-context.tsx'
import { Card, Facts } from '../../ui/page.tsx'
import { Segmented } from '../../ui/tabs.tsx'
import styles from './server.module.css'
import { SNIPPET_KINDS, SNIPPET_TITLES, reachableUrl, snippet } from './snippets.ts'

export function AddressCard({ view }: { readonly view: ServerView }) {
  const [shown, setShown] = useState(false)
  const [kind, setKind] = useQueryChoice('snippet', SNIPPET_KINDS, 'curl')
  const url = reachableUrl(view.url ?? '')
  const apiKey = view.config?.apiKey ?? ''
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
                <CopyButton what="address" text={url} />
              </span>,
            ],
            [
              'API key',
              <span key="key" className={styles.value}>
                <code aria-label="API key">{shown ? apiKey : '•'.repeat(12)}</code>
                <IconButton
                  size="small"
                  label={shown ? 'Hide the key' : 'Show the key'}
                  icon={shown ? EyeOff : Eye}
                  pressed={shown}
                  onClick={() => setShown(!shown)}
                />
                <CopyButton what="key" text={apiKey} />
              </span>,
            ],
            [
              'Models',
              <ul key="models" className={styles.served} aria-label="Served models">
                {view.models.map((model) => (
                  <li key={model.modelId}>
                    <code>{model.name}</code>{' '}
                    {model.loaded ? (
                      <Badge tone="positive">
                        {model.contextLimit === null ? 'loaded' : `loaded, ${formatInteger(model.contextLimit)} tokens`}
                      </Badge>
                    ) : (
                      <Badge>loads when asked for</Badge>
                    )}
                  </li>
                ))}
              </ul>,
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
          <CopyButton what="example" text={code} />
        </div>
        <CodeBlock label={`Example in ${SNIPPET_TITLES[kind]}`}>{code}</CodeBlock>
        <p className={styles.quiet}>
          Put the key into LATHE_API_KEY. It answers OpenAI’s chat, completions and embeddings, and Anthropic’s messages; figures are at
          /metrics.
        </p>
      </div>
    </Card>
  )
}

function CopyButton({ what, text }: { readonly what: string; readonly text: string }) {
  const host = useHost()
  const [copied, setCopied] = useState(false)
  const copy = async (): Promise<void> => {
    await host.copyText(text)
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
