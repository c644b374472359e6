/** The first thing anybody sees: one place to drop a model, two buttons, and what this machine can do. */
import { useQuery } from '@tanstack/react-query'
import { FolderOpen, PackageOpen } from 'lucide-react'
import { Link } from 'wouter'
import type { Hardware } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { StatusDot } from '../../ui/badge.tsx'
import { Button } from '../../ui/button.tsx'
import { LogoMark } from '../../ui/logo.tsx'
import { Bytes, Count } from '../../ui/numbers.tsx'
import { Skeleton } from '../../ui/skeleton.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import styles from './first-run.module.css'
import { largestParameters } from './library.ts'
import { useImport } from './use-import.ts'

export function FirstRun() {
  const { chooseFolder, importSample, pending, error, dismissError } = useImport()
  return (
    <div className={styles.screen}>
      <section className={styles.zone} aria-labelledby="first-run-title">
        <span className={styles.mark}>
          <LogoMark size={56} />
        </span>
        <h1 id="first-run-title" className={styles.title}>
          Drop a Hugging Face model folder
        </h1>
        <p className={styles.text}>
          One with config.json and safetensors. Lathe reads it where it lies, makes it smaller and faster, and shows you what that costs.
          Nothing leaves this computer.
        </p>
        <div className={styles.actions}>
          <Button variant="primary" size="large" icon={FolderOpen} busy={pending} onClick={() => void chooseFolder()}>
            Choose folder…
          </Button>
          <Button size="large" icon={PackageOpen} disabled={pending} onClick={importSample}>
            Try the sample
          </Button>
        </div>
        <p className={styles.aside}>
          The sample is a small chat model that ships with Lathe; its first chart takes a minute or two on a CPU.
        </p>
        {error !== null && (
          <div className={styles.error}>
            <ErrorCard error={error} onRetry={dismissError} />
          </div>
        )}
      </section>
      <HardwareSummary />
    </div>
  )
}

function HardwareSummary() {
  const { queries } = useEngine()
  const hardware = useQuery(queries.system.hardware.queryOptions())
  return (
    <section className={styles.hardware} aria-label="This machine">
      {hardware.error !== null ? (
        <ErrorCard error={hardware.error} onRetry={() => void hardware.refetch()} />
      ) : hardware.data === undefined ? (
        <>
          <Skeleton width="18rem" />
          <Skeleton width="14rem" />
          <Skeleton width="16rem" />
        </>
      ) : (
        <HardwareLines hardware={hardware.data} />
      )}
    </section>
  )
}

interface Verdict {
  readonly tone: 'positive' | 'warning' | 'danger'
  readonly text: string
}

export function hardwareVerdict(hardware: Hardware): Verdict {
  const adapter = hardware.adapters.find((candidate) => candidate.selected)
  if (adapter === undefined) return { tone: 'danger', text: 'No usable graphics adapter' }
  switch (adapter.type) {
    case 'software':
    case 'reference':
      return { tone: 'warning', text: 'Running on the CPU: slow but correct' }
    case 'discrete':
    case 'integrated':
    case 'unknown':
      return { tone: 'positive', text: 'Ready' }
  }
}

function HardwareLines({ hardware }: { readonly hardware: Hardware }) {
  const adapter = hardware.adapters.find((candidate) => candidate.selected)
  const verdict = hardwareVerdict(hardware)
  const budget = hardware.gpuBudgetBytes
  return (
    <>
      <p className={styles.line}>
        <StatusDot tone={verdict.tone} />
        <strong>{verdict.text}</strong>
        {verdict.tone !== 'positive' && <Link href="/hardware">How to change that</Link>}
      </p>
      <p className={styles.line}>{adapter === undefined ? hardware.host.cpu : `${adapter.name} · ${adapter.backend}`}</p>
      <p className={styles.line}>
        {budget === null ? (
          <>
            <Bytes value={hardware.host.freeMemoryBytes} kind="memory" /> of system memory free
          </>
        ) : (
          <>
            <Bytes value={budget} kind="memory" /> for models: room for up to{' '}
            <Count value={largestParameters(budget)} estimate="4.6 bits per weight, a fifth of the memory kept for context" /> parameters at
            4 bits
          </>
        )}
      </p>
    </>
  )
}
