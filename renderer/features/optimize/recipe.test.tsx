/** Recipes, layers and calibration on the Optimize screen, the way a user meets them. */
import { fireEvent, screen, waitFor, within } from '@testing-library/react'
import { expect, test } from 'vitest'
import { MEASURED_PRESETS, PRESETS } from '../../test/fixtures.ts'
import { renderApp } from '../../test/render-app.tsx'

async function writeRecipe() {
  const view = renderApp('/optimize/m-pebble?presets=none&evaluate=none')
  await view.user.click(await screen.findByRole('button', { name: 'Write a recipe' }))
  const text = await screen.findByRole<HTMLTextAreaElement>('textbox', { name: 'Recipe as YAML' })
  return { ...view, text }
}

function lastInput(engine: ReturnType<typeof renderApp>['engine'], path: string): unknown {
  return engine.calls.findLast((call) => call.path === path)?.input
}

test('a preset becomes a recipe, the form changes the text, the text changes the form', async () => {
  const { user, text } = await writeRecipe()
  expect(text.value).toContain('scheme: W4A16')
  await user.click(await screen.findByRole('combobox', { name: 'Algorithm' }))
  await user.click(await screen.findByRole('option', { name: /^GPTQ/ }))
  await waitFor(() => expect(text.value).toContain('GPTQModifier'))
  fireEvent.change(text, { target: { value: text.value.replace('group_size: 128', 'group_size: 32') } })
  await waitFor(() => expect(screen.getByRole('combobox', { name: 'Group size' }).textContent).toContain('32'))
  fireEvent.change(text, { target: { value: `${text.value}    WandaPruningModifier: {sparsity: 0.5}\n` } })
  expect(await screen.findByText(/says more than the form can/)).toBeDefined()
})

test('an error stands beside its line with a hint, and nothing can be started', async () => {
  const { text } = await writeRecipe()
  fireEvent.change(text, { target: { value: text.value.replace('scheme:', 'sheme:') } })
  expect(await screen.findByText(/^Line 4: .*"sheme" is not known/)).toBeDefined()
  expect(screen.getByText(/Did you mean "scheme"\?/)).toBeDefined()
  expect(text.getAttribute('aria-invalid')).toBe('true')
  expect(screen.getByRole('button', { name: 'Start' }).hasAttribute('disabled')).toBe(true)
})

test('a calibrated recipe asks for text, shows what is in it, and starts with it', async () => {
  const { user, engine, text } = await writeRecipe()
  expect(screen.queryByRole('group', { name: 'Calibration text' })).toBeNull()
  fireEvent.change(text, { target: { value: text.value.replace('QuantizationModifier', 'GPTQModifier') } })
  const samples = await screen.findByRole('textbox', { name: 'Samples' })
  fireEvent.change(samples, { target: { value: '64' } })
  expect(await screen.findByText(/Uses 64, about 7.55 k tokens/i)).toBeDefined()
  await user.click(screen.getByRole('button', { name: 'Own file' }))
  fireEvent.change(await screen.findByRole('textbox', { name: 'File' }), { target: { value: '/tmp/broken.jsonl' } })
  expect(await screen.findByText('Line 3 of broken.jsonl is not JSON.')).toBeDefined()
  fireEvent.change(screen.getByRole('textbox', { name: 'File' }), { target: { value: '/tmp/mine.txt' } })
  expect(await screen.findByText('mine.txt')).toBeDefined()
  const start = screen.getByRole('button', { name: 'Start' })
  await waitFor(() => expect(start.hasAttribute('disabled')).toBe(false))
  await user.click(start)
  await waitFor(() => expect(engine.jobs).toHaveLength(1))
  expect(lastInput(engine, 'optimize.start')).toMatchObject({
    presetIds: [],
    recipes: [{ title: 'Balanced 4-bit, my way', yaml: text.value }],
    calibration: { source: { kind: 'file', path: '/tmp/mine.txt' }, samples: 64, sequenceLength: 512, seed: 0 },
  })
})

test('layers of a preset can be changed one by one or whole, and the total follows', async () => {
  const { user, engine } = renderApp('/optimize/m-pebble?presets=fine-4bit&evaluate=none')
  await user.click(await screen.findByText('Layers'))
  const table = within(await screen.findByRole('table', { name: 'Schemes by layer' }))
  await user.selectOptions(await table.findByRole('combobox', { name: 'Layer 0 o_proj' }), 'W8A16 channel')
  expect(await screen.findByText('Layers: 1 change')).toBeDefined()
  await user.selectOptions(table.getByRole('combobox', { name: 'All of layer 1' }), 'original')
  expect(await screen.findByText('Layers: 5 changes')).toBeDefined()
  const start = screen.getByRole('button', { name: 'Start' })
  await waitFor(() => expect(start.hasAttribute('disabled')).toBe(false))
  await user.click(start)
  await waitFor(() => expect(engine.jobs).toHaveLength(1))
  const { overrides } = lastInput(engine, 'optimize.start') as { overrides: unknown[] }
  expect(overrides[0]).toEqual({ target: 'model.layers.0.self_attn.o_proj', scheme: 'W8A16 channel' })
  expect(overrides).toHaveLength(5)
  // meant for what was started, not for whatever is chosen next
  expect(await screen.findByText('Layers')).toBeDefined()
})

test('a search for schemes leaves a recipe to look at, with the loss of each layer', async () => {
  const { user, engine } = renderApp('/optimize/m-pebble?presets=none&evaluate=none')
  await user.click(await screen.findByText('Automatic: a scheme for every layer'))
  await user.click(screen.getByRole('button', { name: 'Size' }))
  fireEvent.change(screen.getByRole('textbox', { name: 'At most, MB' }), { target: { value: '3.5' } })
  await user.click(screen.getByRole('button', { name: 'Find schemes' }))
  expect(await screen.findByText(/^Found /)).toBeDefined()
  expect(lastInput(engine, 'optimize.automatic')).toMatchObject({ target: { kind: 'bytes', bytes: 3.5e6 }, measure: 'weights' })
  expect(await screen.findByRole('checkbox', { name: 'Automatic, 3.50 MB' })).toBeDefined()
  await user.click(await screen.findByText('Layers'))
  expect(await screen.findByRole('columnheader', { name: 'Loss' })).toBeDefined()
})

test('a layer that lost too much is raised from the heat map', async () => {
  const { user, engine } = renderApp('/compare/m-pebble?layers=m-pebble-w4&tensor=model.layers.0.mlp.down_proj.weight')
  await user.click(await screen.findByRole('button', { name: 'Raise this layer and re-run' }))
  expect(lastInput(engine, 'optimize.raise')).toEqual({ variantId: 'm-pebble-w4', module: 'model.layers.0.mlp.down_proj' })
  await waitFor(() => expect(engine.jobs).toHaveLength(1))
  expect(lastInput(engine, 'optimize.start')).toMatchObject({
    modelId: 'm-pebble',
    presetIds: [],
    recipes: [{ title: 'Balanced 4-bit, raised' }],
    baseVariantId: 'm-pebble-w4',
  })
  expect(screen.getByText(/5 of 6 layers are taken over/)).toBeDefined()
})

const MEASURED = { presets: [...PRESETS, ...MEASURED_PRESETS] }

test('says what the adapter only emulates, on the card and in the list of schemes', async () => {
  const { user } = renderApp('/optimize/m-pebble?presets=none&evaluate=none', MEASURED)
  const card = within(await screen.findByRole('listitem', { name: 'Near-lossless FP8' }))
  expect(card.getByText('emulated')).toBeDefined()
  expect(within(screen.getByRole('listitem', { name: 'Near-lossless 8-bit' })).queryByText('emulated')).toBeNull()
  await user.click(screen.getByRole('button', { name: 'Write a recipe' }))
  await user.click(await screen.findByRole('combobox', { name: 'Scheme' }))
  await user.click(await screen.findByRole('option', { name: /^FP8_DYNAMIC.*emulated/ }))
  expect(await screen.findByText(/offers no 8-bit floating-point products to Lathe/)).toBeDefined()
})

test('the smallest that holds: a range, a time, and its map to look at and change first', async () => {
  const { user, engine } = renderApp('/optimize/m-pebble?presets=smallest-99&evaluate=none', MEASURED)
  const card = within(await screen.findByRole('listitem', { name: 'Smallest that holds 99 %' }))
  expect(card.getByText('Size, found by measuring')).toBeDefined()
  expect(await screen.findByText(/Roughly/)).toBeDefined()
  expect(screen.getByRole('textbox', { name: 'Samples' })).toBeDefined()
  await user.click(card.getByRole('button', { name: 'See the map first' }))
  expect(await screen.findByText(/change any layer under “Layers”/)).toBeDefined()
  expect(lastInput(engine, 'optimize.automatic')).toMatchObject({
    measure: 'output',
    algorithm: 'gptq',
    target: { kind: 'loss', bound: -Math.log(0.99) },
  })
  const custom = within(screen.getByRole('listitem', { name: 'Smallest that holds 99 %, my map' }))
  expect(custom.getByText('holds 99.0 %, checked')).toBeDefined()
  expect(screen.getByRole('checkbox', { name: 'Smallest that holds 99 %' }).getAttribute('aria-checked')).toBe('false')
  const start = screen.getByRole('button', { name: 'Start' })
  await waitFor(() => expect(start.hasAttribute('disabled')).toBe(false))
  await user.click(start)
  await waitFor(() => expect(engine.jobs).toHaveLength(1))
  expect(lastInput(engine, 'optimize.start')).toMatchObject({
    presetIds: [],
    recipes: [{ holdsWithin: -Math.log(0.99) }],
    calibration: { samples: 256 },
  })
})

test('automatic schemes for what fits this GPU', async () => {
  const { user, engine } = renderApp('/optimize/m-pebble?presets=none&evaluate=none')
  await user.click(await screen.findByText('Automatic: a scheme for every layer'))
  await user.click(await screen.findByRole('button', { name: 'Fits this GPU' }))
  fireEvent.change(screen.getByRole('textbox', { name: 'With a context of, tokens' }), { target: { value: '4096' } })
  await user.click(screen.getByRole('button', { name: 'GPTQ' }))
  await user.click(screen.getByRole('button', { name: 'Find schemes' }))
  expect(await screen.findByText(/It is the custom recipe now/)).toBeDefined()
  expect(lastInput(engine, 'optimize.automatic')).toMatchObject({
    target: { kind: 'fits', contextTokens: 4096 },
    measure: 'weights',
    algorithm: 'gptq',
  })
})
