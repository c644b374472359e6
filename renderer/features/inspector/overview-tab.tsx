/** The card of a model: architecture, storage, what it needs on this device at a context of your choice, and its relatives. */
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { Link } from 'wouter'
import type { Architecture, ModelDetail } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { contextStepsUpTo, nearestStep } from '../../lib/context-steps.ts'
import { fitOf } from '../../lib/fit.ts'
import { formatDateTime, formatInteger } from '../../lib/format.ts'
import { Slider } from '../../ui/controls.tsx'
import { CodeBlock, Disclosure } from '../../ui/disclosure.tsx'
import { FitBar } from '../../ui/fit-bar.tsx'
import { ServingFit } from '../models/serving-fit.tsx'
import { Bytes, Count, Significant } from '../../ui/numbers.tsx'
import { Card, Facts } from '../../ui/page.tsx'
import { ShareBar } from '../../ui/share-bar.tsx'
import { Skeleton } from '../../ui/skeleton.tsx'
import { Term } from '../../ui/term.tsx'
import { variantTitle } from '../models/library.ts'
import { useModels } from '../models/queries.ts'
import { SchemeBadges } from '../models/scheme-badges.tsx'
import { CacheCard } from './cache-card.tsx'
import styles from './inspector.module.css'
import { OutcomeTable } from './outcome-table.tsx'
import { kindTitle, sharesOf } from './tensors.ts'

export function OverviewTab({ detail }: { readonly detail: ModelDetail }) {
  const model = detail.summary
  return (
    <div className={styles.overview}>
      <div className={styles.column}>
        <Card title="Architecture">
          <ArchitectureFacts architecture={model.architecture} />
        </Card>
        <Card title="On this device">
          <DeviceFit detail={detail} />
        </Card>
        {detail.kvBytesPerToken !== null && <CacheCard key={model.id} modelId={model.id} />}
      </div>
      <div className={styles.column}>
        <Card title="Storage">
          <div className={styles.stack}>
            <Facts
              rows={[
                ['Parameters', <Count key="parameters" value={model.parameters} />],
                ['Weights', <Bytes key="weights" value={model.weightBytes} />],
                ['On disk', <Bytes key="disk" value={model.diskBytes} />],
                [
                  <Term key="term" name="scheme">
                    Format
                  </Term>,
                  <SchemeBadges key="badges" model={model} />,
                ],
                [
                  <Term key="term" name="bits-per-weight">
                    Bits per weight
                  </Term>,
                  <Significant key="bits" value={model.bitsPerWeight} />,
                ],
                ['Licence', model.license ?? 'not stated'],
              ]}
            />
            <ShareBar label="Bytes by data type" shares={sharesOf(detail.bytesByDtype, (dtype) => dtype)} />
            <ShareBar label="Bytes by kind of tensor" shares={sharesOf(detail.bytesByKind, kindTitle)} />
          </div>
        </Card>
      </div>
      <Card title="Lineage" className={styles.span}>
        <Lineage detail={detail} />
      </Card>
      {detail.outcome !== null && (
        <Card title="How it was chosen" className={styles.span}>
          <OutcomeTable outcome={detail.outcome} />
        </Card>
      )}
      <div className={styles.wide}>
        <Disclosure title="config.json">
          <CodeBlock label="config.json">{JSON.stringify(detail.config, null, 2)}</CodeBlock>
        </Disclosure>
        {detail.run !== null && (
          <Disclosure title="run.json: how this variant was made">
            <CodeBlock label="run.json">{JSON.stringify(detail.run, null, 2)}</CodeBlock>
          </Disclosure>
        )}
      </div>
    </div>
  )
}

function exact(value: number | null) {
  return <Count value={value} exact />
}

function ArchitectureFacts({ architecture }: { readonly architecture: Architecture }) {
  const { attentionHeads, keyValueHeads } = architecture
  return (
    <Facts
      rows={[
        ['Class', <code key="class">{architecture.className}</code>],
        ['Layers', exact(architecture.layers)],
        ['Hidden size', exact(architecture.hiddenSize)],
        ['Intermediate size', exact(architecture.intermediateSize)],
        [
          'Attention heads',
          <span key="heads" className="numeric">
            {exact(attentionHeads)}
            {keyValueHeads !== null && keyValueHeads !== attentionHeads && <> queries, {exact(keyValueHeads)} keys and values</>}
          </span>,
        ],
        ['Head size', exact(architecture.headDim)],
        ['Vocabulary', exact(architecture.vocabSize)],
        [
          <Term key="term" name="context">
            Context
          </Term>,
          exact(architecture.contextLength),
        ],
        architecture.slidingWindow === null ? null : ['Sliding window', exact(architecture.slidingWindow)],
        [
          'Output head',
          architecture.tiedEmbeddings === null ? 'not stated' : architecture.tiedEmbeddings ? 'shares the embedding' : 'its own tensor',
        ],
      ]}
    />
  )
}

/** The engine's plan; what can only be looked at has no plan, and is judged by its weights. */
function DeviceFit({ detail }: { readonly detail: ModelDetail }) {
  const model = detail.summary
  const { queries } = useEngine()
  const hardware = useQuery(queries.system.hardware.queryOptions()).data
  const settings = useQuery(queries.settings.get.queryOptions()).data
  const steps = contextStepsUpTo(detail.summary.architecture.contextLength)
  const [chosen, setChosen] = useState<number | null>(null)
  if (hardware === undefined || settings === undefined) return <Skeleton height="4rem" />
  const index = chosen ?? nearestStep(steps, settings.contextTokens)
  const contextTokens = steps[index] ?? settings.contextTokens
  return (
    <div className={styles.stack}>
      {model.status === 'ready' ? (
        <ServingFit
          model={model}
          contextTokens={Math.min(contextTokens, model.architecture.contextLength ?? contextTokens)}
          parallel={null}
          kvDtype={settings.kvDtype}
          onContext={null}
          onParallel={null}
        />
      ) : (
        <FitBar
          detail="full"
          fit={fitOf({
            weightBytes: detail.summary.weightBytes,
            kvBytesPerToken: detail.kvBytesPerToken,
            contextTokens,
            budgetBytes: hardware.gpuBudgetBytes,
          })}
        />
      )}
      {steps.length > 1 && (
        <Slider
          label={<Term name="context">Context</Term>}
          value={index}
          min={0}
          max={steps.length - 1}
          format={(step) => `${formatInteger(steps[step] ?? 0)} tokens`}
          onChange={setChosen}
        />
      )}
    </div>
  )
}

function Lineage({ detail }: { readonly detail: ModelDetail }) {
  const models = useModels().data ?? []
  const model = detail.summary
  const source = model.parentId === null ? model : models.find((candidate) => candidate.id === model.parentId)
  const variants = model.parentId === null ? detail.variants : models.filter((candidate) => candidate.parentId === model.parentId)
  return (
    <ul className={styles.lineage}>
      {source !== undefined && (
        <li className={styles.relative} aria-current={source.id === model.id ? 'page' : undefined}>
          <Link href={`/models/${source.id}`}>{source.name}</Link>
          <SchemeBadges model={source} />
          <span className={styles.grow}>original, imported {formatDateTime(source.createdAt)}</span>
          <Bytes value={source.weightBytes} />
        </li>
      )}
      {variants.map((variant) => (
        <li key={variant.id} className={styles.relative} data-variant aria-current={variant.id === model.id ? 'page' : undefined}>
          <Link href={`/models/${variant.id}`}>{variantTitle(variant, source)}</Link>
          <SchemeBadges model={variant} />
          <span className={styles.grow}>made {formatDateTime(variant.createdAt)}</span>
          <Bytes value={variant.weightBytes} />
        </li>
      ))}
      {variants.length === 0 && (
        <li className={styles.quiet}>
          No variants yet. {model.status === 'ready' && <Link href={`/optimize/${model.id}`}>Make one</Link>}
        </li>
      )}
    </ul>
  )
}
