/** Where an error's code leads to its repair. Screens add repairs of their own where the context has a better one. */

export interface Repair {
  readonly title: string
  readonly href: string
}

const HARDWARE: Repair = { title: 'Open Hardware', href: '/hardware' }
const JOBS: Repair = { title: 'Open Jobs', href: '/jobs' }
const MODELS: Repair = { title: 'Open the library', href: '/models' }

const REPAIRS: Readonly<Record<string, Repair>> = {
  'gpu.no-adapter': HARDWARE,
  'gpu.out-of-memory': { title: 'See what is loaded', href: '/hardware' },
  'gpu.device-lost': HARDWARE,
  'gpu.unsupported': HARDWARE,
  'runtime.context-exceeded': { title: 'Change the context', href: '/settings/models' },
  'runtime.queue-full': JOBS,
  'model.busy': JOBS,
  'model.not-found': MODELS,
  'job.not-found': JOBS,
  'disk.full': { title: 'Choose where variants go', href: '/settings/models' },
}

export function repairOf(code: string): Repair | null {
  return REPAIRS[code] ?? null
}
