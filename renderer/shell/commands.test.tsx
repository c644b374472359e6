import { renderHook } from '@testing-library/react'
import { afterEach, describe, expect, test } from 'vitest'
import { displayShortcut } from '../lib/shortcut.ts'
import { bindingsOf, hasModifier, useCommands, useCommandStore, type Command } from './commands.ts'
import { bySection, paletteScore } from './palette.tsx'

const ran: string[] = []
function command(id: string, change: Partial<Command> = {}): Command {
  return { id, title: id, section: 'View', run: () => ran.push(id), ...change }
}

afterEach(() => {
  ran.length = 0
  useCommandStore.setState({ commands: new Map() })
})

describe('registry', () => {
  test('a screen’s commands live as long as the screen', () => {
    const commands = [command('a'), command('b')]
    const { unmount } = renderHook(() => useCommands(commands))
    expect([...useCommandStore.getState().commands.keys()]).toEqual(['a', 'b'])
    unmount()
    expect(useCommandStore.getState().commands.size).toBe(0)
  })

  test('unregistering does not take away a newer command under the same id', () => {
    const { register } = useCommandStore.getState()
    const removeOld = register([command('a', { title: 'old' })])
    register([command('a', { title: 'new' })])
    removeOld()
    expect(useCommandStore.getState().commands.get('a')?.title).toBe('new')
  })

  test('sections keep the order in which they first appear', () => {
    const sections = bySection([command('a'), command('b', { section: 'Help' }), command('c')])
    expect(sections.map(([section, commands]) => [section, commands.map((entry) => entry.id)])).toEqual([
      ['View', ['a', 'c']],
      ['Help', ['b']],
    ])
  })
})

describe('shortcuts', () => {
  test('single keys leave typing alone, chords do not', () => {
    const bindings = bindingsOf([command('help', { shortcut: '?' }), command('palette', { shortcut: '$mod+K' }), command('silent')])
    expect(Object.keys(bindings)).toEqual(['?', '$mod+K'])
    const input = document.createElement('input')
    const press = (target: HTMLElement, shortcut: string) => {
      const event = new KeyboardEvent('keydown', { cancelable: true })
      Object.defineProperty(event, 'target', { value: target })
      bindings[shortcut]?.(event)
      return event.defaultPrevented
    }
    expect([press(input, '?'), press(document.body, '?'), press(input, '$mod+K')]).toEqual([false, true, true])
    expect(ran).toEqual(['help', 'palette'])
  })

  test('are written as the platform writes them', () => {
    expect([hasModifier('?'), hasModifier('$mod+K')]).toEqual([false, true])
    expect(displayShortcut('$mod+Shift+K', true)).toEqual(['⌘', '⇧', 'K'])
    expect(displayShortcut('$mod+,', false)).toEqual(['Ctrl', ','])
  })
})

test('the palette puts what is called so before what is about it', () => {
  const server = paletteScore('go.server', 'server', ['Server', 'openai', 'api'])
  const monitor = paletteScore('go.monitor', 'server', ['Monitor', 'server', 'metrics'])
  expect([server > monitor, monitor > 0, paletteScore('go.jobs', 'server', ['Jobs'])]).toEqual([true, true, 0])
})
