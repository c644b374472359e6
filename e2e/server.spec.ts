/** The server, from its screen to a client and back: started over the sample, asked by the official client, seen in the table, stopped. */
import { AxeBuilder } from '@axe-core/playwright'
import OpenAI from 'openai'
import { expect, test } from './fixtures.ts'
import { ServerPage } from './pages/server.ts'

test('serves the sample to a client, shows its request, and stops', async ({ studio, shell }) => {
  const { page } = studio
  await page.getByRole('button', { name: 'Try the sample' }).click()
  await expect(page.getByRole('heading', { level: 1 })).toContainText('Pebble')
  const { url, key } = await new ServerPage(page).start(/Pebble/)

  const client = new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0 })
  const model = (await client.models.list()).data[0]?.id ?? ''
  const schema = { type: 'object', properties: { pet: { enum: ['hen', 'cat'] } }, required: ['pet'] }
  const answer = await client.chat.completions.create({
    model,
    messages: [{ role: 'user', content: 'What kind of pet does Gus have?' }],
    // Enough for whatever whitespace a sampled answer wanders into: the grammar allows 20 characters in each of five places.
    max_tokens: 160,
    response_format: { type: 'json_schema', json_schema: { name: 'pet', schema } },
  })
  expect(['hen', 'cat']).toContain((JSON.parse(answer.choices[0]?.message.content ?? '') as { pet: string }).pet)
  const row = page.getByRole('table', { name: 'Requests' }).getByRole('row').nth(1)
  await expect(row).toContainText(/chat.*Finished/s)
  if (shell === 'browser') {
    for (const colorScheme of ['dark', 'light'] as const) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
      const { violations } = await new AxeBuilder({ page }).analyze()
      expect(violations.map(({ id, nodes }) => [id, nodes.map((node) => node.target)])).toEqual([])
    }
  }
  await page.getByRole('button', { name: 'Stop server' }).click()
  await expect(page.getByRole('button', { name: 'Start server' })).toBeVisible()
  await expect(client.models.list()).rejects.toThrow(/Connection/)
})
