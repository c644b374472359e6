/**
 * The page on the fake engine, for looking at screens: `vite build --mode fake`. Options come from the query of the first load and stay for the session:
 * ?library=empty, ?library=one (an original alone), ?library=crowded (eight on one board), ?adapter=discrete, ?jobs=mixed, ?fail=models.list, ?hang=models.list.
 */
import '@fontsource-variable/inter/wght.css'
import { createRoot } from 'react-dom/client'
import { LatheError } from '../../engine/contract/index.ts'
import { createQueryClient } from '../data/engine.tsx'
import { createHost } from '../host.ts'
import { App } from '../shell/app.tsx'
import '../styles/base.css'
import '../styles/tokens.css'
import { CROWDED_LIBRARY, CROWDED_RESULTS } from './crowded-fixtures.ts'
import { FakeEngine, type FakeEngineOptions } from './fake-engine.ts'
import { MEASURED_PRESETS, PRESETS, SAMPLE } from './fixtures.ts'
import { mixedJobs } from './job-fixtures.ts'

function libraryOf(name: string | null): Pick<FakeEngineOptions, 'library' | 'results'> {
  if (name === 'empty') return { library: [], results: [] }
  if (name === 'one') return { library: [SAMPLE], results: [] }
  return name === 'crowded' ? { library: CROWDED_LIBRARY, results: CROWDED_RESULTS } : {}
}

const options = new URLSearchParams(window.location.search)
const failing = options.get('fail')
const engine = new FakeEngine({
  ...libraryOf(options.get('library')),
  presets: [...PRESETS, ...MEASURED_PRESETS],
  adapter: options.get('adapter') === 'discrete' ? 'discrete' : 'software',
  failures:
    failing === null
      ? {}
      : {
          [failing]: new LatheError(
            'disk.io',
            'The library database could not be read (SQLITE_CORRUPT).',
            'Restore the file from its backup.',
          ),
        },
  hanging: options.get('hang')?.split(',') ?? [],
  chatDelayMs: 25,
  startMs: Date.now(),
})
if (options.get('jobs') === 'mixed') mixedJobs(engine)
setInterval(() => engine.tick(400), 400)
if (options.get('lost') !== null) engine.setConnection({ status: 'lost', hasBeenOpen: true, attempt: 2 })

const root = document.getElementById('root')
if (root !== null)
  createRoot(root).render(<App client={engine.client} connection={engine} queryClient={createQueryClient()} host={createHost(window)} />)
