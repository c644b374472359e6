/** The tokenizer at work: type and see the tokens; special tokens; the chat template on a sample conversation. */
import { keepPreviousData, useQuery } from '@tanstack/react-query'
import { Type } from 'lucide-react'
import { useEffect, useState } from 'react'
import type { ModelSummary, Tokenization } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { formatInteger } from '../../lib/format.ts'
import { useQueryChoice } from '../../lib/url-state.ts'
import { Badge } from '../../ui/badge.tsx'
import { Field, TextArea } from '../../ui/controls.tsx'
import { CodeBlock, Disclosure } from '../../ui/disclosure.tsx'
import { Significant } from '../../ui/numbers.tsx'
import { Card } from '../../ui/page.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { EmptyState, ErrorCard } from '../../ui/state.tsx'
import { Segmented } from '../../ui/tabs.tsx'
import styles from './inspector.module.css'

const SAMPLE_TEXT = 'The lighthouse keeper’s hen laid 3 eggs — one was blue! 🥚\nWas it really?'

const SAMPLE_CONVERSATION = [
  { role: 'system', content: 'You are a helpful guide.' },
  { role: 'user', content: 'Who keeps the lighthouse?' },
  { role: 'assistant', content: 'Dan does.' },
  { role: 'user', content: 'And what is his ferret called?' },
]

/** Typing stays fluent, and a pause of this length is when people look up. */
const TYPING_PAUSE_MS = 120

export function TokenizerTab({ model }: { readonly model: ModelSummary }) {
  if (!model.hasTokenizer) {
    return (
      <EmptyState icon={Type} title="No tokenizer in this folder">
        Lathe looks for tokenizer.json. Without it the weights can be inspected and compressed, but the model can’t chat or be evaluated on
        text.
      </EmptyState>
    )
  }
  return (
    <div className={styles.tokenizer}>
      <TokenizeCard modelId={model.id} />
      <TokenizerFacts model={model} />
    </div>
  )
}

function TokenizeCard({ modelId }: { readonly modelId: string }) {
  const { queries } = useEngine()
  const [text, setText] = useState(SAMPLE_TEXT)
  const [settled, setSettled] = useState(text)
  const [view, setView] = useQueryChoice('view', ['text', 'ids'], 'text')
  useEffect(() => {
    const timer = setTimeout(() => setSettled(text), TYPING_PAUSE_MS)
    return () => clearTimeout(timer)
  }, [text])
  const tokens = useQuery({
    ...queries.models.tokenize.queryOptions({ input: { modelId, text: settled } }),
    placeholderData: keepPreviousData,
    gcTime: 10_000,
  })
  return (
    <Card
      title="Try it"
      actions={
        <Segmented
          label="Show tokens as"
          value={view}
          onChange={setView}
          options={[
            { value: 'text', title: 'Text' },
            { value: 'ids', title: 'Ids' },
          ]}
        />
      }
    >
      <div className={styles.stack}>
        <Field label="Text">
          {(control) => (
            <TextArea {...control} rows={4} maxLength={200_000} value={text} onChange={(event) => setText(event.target.value)} />
          )}
        </Field>
        {tokens.error !== null ? (
          <ErrorCard error={tokens.error} onRetry={() => void tokens.refetch()} />
        ) : tokens.data === undefined ? (
          <SkeletonLines label="Tokenizing" lines={2} />
        ) : (
          <>
            <TokenCounts tokenization={tokens.data} />
            <TokenStrip tokenization={tokens.data} view={view} />
          </>
        )}
      </div>
    </Card>
  )
}

function TokenCounts({ tokenization }: { readonly tokenization: Tokenization }) {
  const count = tokenization.tokens.length
  return (
    <dl className={styles.counts}>
      <div>
        <dt>Tokens</dt>
        <dd className="numeric">{formatInteger(count)}</dd>
      </div>
      <div>
        <dt>Characters</dt>
        <dd className="numeric">{formatInteger(tokenization.characters)}</dd>
      </div>
      <div>
        <dt>Bytes</dt>
        <dd className="numeric">{formatInteger(tokenization.bytes)}</dd>
      </div>
      <div>
        <dt>Characters per token</dt>
        <dd>
          <Significant value={count === 0 ? null : tokenization.characters / count} />
        </dd>
      </div>
    </dl>
  )
}

/** More would only slow the page; the counts above stay complete. */
const TOKENS_SHOWN = 2000

function TokenStrip({ tokenization, view }: { readonly tokenization: Tokenization; readonly view: 'text' | 'ids' }) {
  const shown = tokenization.tokens.slice(0, TOKENS_SHOWN)
  if (shown.length === 0) return <p className={styles.quiet}>No tokens: the text is empty.</p>
  return (
    <>
      <p className={styles.strip} aria-label="Tokens">
        {shown.map((token, index) => (
          <span
            key={index}
            className={styles.token}
            data-tint={index % 5}
            data-special={token.special || undefined}
            title={`${token.id}: ${JSON.stringify(token.text)}`}
          >
            {view === 'ids' ? token.id : visibleText(token.text)}
          </span>
        ))}
      </p>
      {tokenization.tokens.length > TOKENS_SHOWN && (
        <p className={styles.quiet}>
          The first {formatInteger(TOKENS_SHOWN)} of {formatInteger(tokenization.tokens.length)} tokens.
        </p>
      )}
    </>
  )
}

/** Line breaks are shown and still break; a token that is part of a character says so. */
export function visibleText(text: string): string {
  if (text === '') return '∅'
  return text.replaceAll('\n', '⏎\n').replaceAll('\t', '⇥')
}

function TokenizerFacts({ model }: { readonly model: ModelSummary }) {
  const { queries } = useEngine()
  const info = useQuery(queries.models.tokenizer.queryOptions({ input: { modelId: model.id } }))
  if (info.error !== null) return <ErrorCard error={info.error} onRetry={() => void info.refetch()} />
  if (info.data === undefined) return <SkeletonLines label="Reading the tokenizer" lines={6} />
  return (
    <>
      <Card
        title="Special tokens"
        actions={<span className={styles.quiet}>{`${info.data.kind} · ${formatInteger(info.data.vocabSize)} entries`}</span>}
      >
        {info.data.specialTokens.length === 0 ? (
          <p className={styles.quiet}>None are declared.</p>
        ) : (
          <ul className={styles.specials}>
            {info.data.specialTokens.map((token) => (
              <li key={`${token.role} ${token.id}`}>
                <span className={styles.quiet}>{token.role}</span>
                <code>{token.text}</code>
                <Badge>{token.id}</Badge>
              </li>
            ))}
          </ul>
        )}
      </Card>
      <Card title="Chat template">
        {info.data.chatTemplate === null ? (
          <p className={styles.quiet}>None: this is a base model. Chat shows it as plain text completion.</p>
        ) : (
          <TemplatePreview modelId={model.id} template={info.data.chatTemplate} />
        )}
      </Card>
    </>
  )
}

function TemplatePreview({ modelId, template }: { readonly modelId: string; readonly template: string }) {
  const { queries } = useEngine()
  const rendered = useQuery(queries.models.renderChat.queryOptions({ input: { modelId, messages: SAMPLE_CONVERSATION } }))
  return (
    <div className={styles.stack}>
      <p className={styles.quiet}>A sample conversation as the model will read it:</p>
      {rendered.error !== null ? (
        <ErrorCard error={rendered.error} onRetry={() => void rendered.refetch()} />
      ) : rendered.data === undefined ? (
        <SkeletonLines label="Rendering the template" lines={4} />
      ) : (
        <CodeBlock label="Rendered conversation">{rendered.data.text}</CodeBlock>
      )}
      <Disclosure title="The template itself">
        <CodeBlock label="Chat template source">{template}</CodeBlock>
      </Disclosure>
    </div>
  )
}
