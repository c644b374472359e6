/** Chat with any model of the library: threads at the left, the conversation, its settings at the right. */
import { useQuery } from '@tanstack/react-query'
import { ClipboardCopy, Columns2, FileJson, FileText, MessageSquare, PanelLeft, Share, SlidersHorizontal, Terminal } from 'lucide-react'
import { useMemo } from 'react'
import type { ChatThread, ModelSummary } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { useQueryParameter } from '../../lib/url-state.ts'
import { useDelayed } from '../../lib/use-now.ts'
import { useCommands } from '../../shell/commands.ts'
import { Badge } from '../../ui/badge.tsx'
import { Button, ButtonLink, IconButton } from '../../ui/button.tsx'
import { useHost } from '../../ui/host-context.tsx'
import { Menu } from '../../ui/menu.tsx'
import { Page } from '../../ui/page.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { EmptyState, ErrorCard } from '../../ui/state.tsx'
import { showToast } from '../../ui/toast.tsx'
import { ModelPicker } from '../models/model-picker.tsx'
import { useModels } from '../models/queries.ts'
import { useImport } from '../models/use-import.ts'
import { readDrafts, useDraftStore } from './chat-store.ts'
import styles from './chat.module.css'
import { saveFile } from '../compare/export.ts'
import { reachableUrl } from '../server/snippets.ts'
import { chatBlock, conversationText, defaultModel } from './conversation.ts'
import { useDraftSync } from './draft-sync.ts'
import { asCurl, asJson, asMarkdown } from './export.ts'
import { ConversationView } from './parts/conversation-view.tsx'
import { ParametersDrawer } from './parts/parameters-drawer.tsx'
import { ThreadList } from './parts/thread-list.tsx'
import { useMessages, useParameters, useThreadActions, useThreads } from './queries.ts'

/** Where the server listens unless it was told otherwise. */
const DEFAULT_SERVER = 'http://127.0.0.1:8000/v1'

export function ChatScreen({ threadId }: { readonly threadId: string | undefined }) {
  useDraftSync()
  const models = useModels()
  const threads = useThreads()
  const pending = models.isPending || (threadId !== undefined && threads.isPending)
  const slow = useDelayed(pending, 150)
  const error = models.data === undefined ? models.error : null
  const thread = threads.data?.find((candidate) => candidate.id === threadId)
  if (error !== null) {
    return (
      <Page title="Chat">
        <ErrorCard error={error} onRetry={() => void models.refetch()} />
      </Page>
    )
  }
  if (models.data === undefined || (threadId !== undefined && threads.isPending)) {
    return <Page title="Chat">{slow && <SkeletonLines label="Reading the library" />}</Page>
  }
  if (threadId !== undefined && thread === undefined) {
    return (
      <Page title="Chat" body="fill">
        <div className={styles.screen}>
          <ThreadList threadId={threadId} />
          <div className={styles.gone}>
            <EmptyState icon={MessageSquare} title="This chat is gone" actions={<ButtonLink href="/chat">New chat</ButtonLink>}>
              It was deleted, or the address is from another data folder.
            </EmptyState>
          </div>
        </div>
      </Page>
    )
  }
  if (models.data.length === 0 && thread === undefined) return <NoModels />
  return <Chat thread={thread ?? null} models={models.data} />
}

function NoModels() {
  const { chooseFolder, importSample } = useImport()
  return (
    <Page title="Chat">
      <EmptyState
        icon={MessageSquare}
        title="Nobody to talk to yet"
        actions={
          <>
            <Button variant="primary" onClick={() => void chooseFolder()}>
              Import a model…
            </Button>
            <Button onClick={importSample}>Try the sample</Button>
          </>
        }
      >
        Bring a Hugging Face model folder into the library, then come back and chat with it, or with a variant that you made smaller.
      </EmptyState>
    </Page>
  )
}

/** The model of a conversation: the address says it first, then the thread, then the habit. */
function useChatModel(thread: ChatThread | null, models: readonly ModelSummary[]) {
  const [asked, setAsked] = useQueryParameter('model')
  const { chooseModel } = useThreadActions()
  const find = (id: string | null) => models.find((candidate) => candidate.id === id) ?? null
  const model = find(asked) ?? (thread === null || thread.modelId === null ? defaultModel(models) : find(thread.modelId))
  const choose = (modelId: string) => {
    if (thread === null) setAsked(modelId)
    else {
      chooseModel(thread.id, modelId)
      setAsked(null)
    }
  }
  return { model, choose }
}

function Chat({ thread, models }: { readonly thread: ChatThread | null; readonly models: readonly ModelSummary[] }) {
  const { queries } = useEngine()
  const hardware = useQuery(queries.system.hardware.queryOptions()).data
  const { model, choose } = useChatModel(thread, models)
  const [parameters, setParameters] = useParameters(thread)
  const { messages } = useMessages(thread?.id ?? null)
  const drawerOpen = useDraftStore((state) => state.drawerOpen)
  const listOpen = useDraftStore((state) => state.listOpen)
  const { setDrawerOpen, setListOpen } = readDrafts()
  const host = useHost()
  const loaded = hardware?.loaded.find((candidate) => candidate.modelId === model?.id)
  const find = (id: string | null) => models.find((candidate) => candidate.id === id)
  const copyAll = async () => {
    await host.copyText(conversationText(parameters.systemPrompt, messages, (id) => find(id)?.name ?? 'Answer'))
    showToast({ type: 'success', title: 'Chat copied as text' })
  }
  const title = thread?.title ?? 'New chat'
  const conversation = { title, ...parameters, messages, nameOf: (id: string | null) => find(id)?.name ?? 'Answer' }
  const server = useQuery(queries.server.view.queryOptions()).data
  const copyCall = async () => {
    const served = server?.models.find((candidate) => candidate.modelId === model?.id)
    await host.copyText(asCurl(conversation, reachableUrl(server?.url ?? DEFAULT_SERVER), served?.name ?? model?.name ?? 'model'))
    showToast({
      type: 'success',
      title: 'Call copied',
      ...(served === undefined && { description: 'Start the server with this model for it to work.' }),
    })
  }
  useCommands(
    useMemo(
      () => [
        {
          id: 'chat.settings',
          section: 'Chat' as const,
          title: 'Chat settings',
          icon: SlidersHorizontal,
          keywords: ['system prompt', 'temperature', 'sampling', 'seed'],
          run: () => setDrawerOpen(!readDrafts().drawerOpen),
        },
        {
          id: 'chat.list',
          section: 'Chat' as const,
          title: 'Show or hide the list of chats',
          icon: PanelLeft,
          run: () => setListOpen(!readDrafts().listOpen),
        },
      ],
      [setDrawerOpen, setListOpen],
    ),
  )
  return (
    <Page
      title={title}
      body="fill"
      actions={
        <>
          {model !== null && chatBlock(model) === null && (
            <span className={styles.loadState}>
              {loaded === undefined ? <Badge>Loads on send</Badge> : <Badge tone="positive">In memory</Badge>}
            </span>
          )}
          <ModelPicker
            label="Choose a model"
            modelId={model?.id ?? null}
            onChange={choose}
            blocked={(candidate) => chatBlock(candidate)?.message ?? null}
          />
          <ButtonLink variant="ghost" icon={Columns2} href={model === null ? '/arena' : `/arena?models=${model.id}`}>
            Side by side
          </ButtonLink>
          <Menu
            label="Export"
            trigger={<IconButton label="Export chat" icon={Share} />}
            actions={[
              { title: 'Copy chat as text', icon: ClipboardCopy, disabled: messages.length === 0, onSelect: () => void copyAll() },
              { title: 'Copy as cURL', icon: Terminal, disabled: messages.length === 0, onSelect: () => void copyCall() },
              {
                title: 'Save as Markdown…',
                icon: FileText,
                disabled: messages.length === 0,
                separated: true,
                onSelect: () => saveFile(`${title}.md`, 'text/markdown', asMarkdown(conversation)),
              },
              {
                title: 'Save as JSON…',
                icon: FileJson,
                disabled: messages.length === 0,
                onSelect: () => saveFile(`${title}.json`, 'application/json', asJson(conversation)),
              },
            ]}
          />
          <IconButton label="List of chats" icon={PanelLeft} pressed={listOpen} onClick={() => setListOpen(!listOpen)} />
          <IconButton label="Chat settings" icon={SlidersHorizontal} pressed={drawerOpen} onClick={() => setDrawerOpen(!drawerOpen)} />
        </>
      }
    >
      <div className={styles.screen} data-drawer={drawerOpen || undefined}>
        {listOpen && <ThreadList threadId={thread?.id} />}
        <ConversationView key={`conversation ${thread?.id ?? ''}`} thread={thread} models={models} model={model} parameters={parameters} />
        {drawerOpen && (
          <ParametersDrawer
            key={`settings ${thread?.id ?? ''}`}
            model={model}
            loaded={loaded}
            parameters={parameters}
            lastSeed={messages.findLast((message) => message.stats !== null)?.stats?.seed ?? null}
            onChange={setParameters}
            onClose={() => setDrawerOpen(false)}
          />
        )}
      </div>
    </Page>
  )
}
