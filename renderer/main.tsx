/** Starts the page: session, connection, React. */
import '@fontsource-variable/inter/wght.css'
import { createRoot } from 'react-dom/client'
import { createQueryClient } from './data/engine.tsx'
import { createHost } from './host.ts'
import { connectEngine, startSession } from './rpc.ts'
import { App } from './shell/app.tsx'
import './styles/tokens.css'
import './styles/base.css'

const root = document.getElementById('root')
if (root === null) throw new Error('index.html has no #root')

// A refused or unreachable session shows itself as a connection that never opens; the banner says what to do about it.
await startSession(window).catch(() => false)
const { client, connection } = connectEngine(window)
createRoot(root).render(<App client={client} connection={connection} queryClient={createQueryClient()} host={createHost(window)} />)
