/** `lathe serve`: announced, not here yet. It says so instead of being unknown. */
import { LatheError } from '../../../engine/contract/index.ts'
import type { Command } from '../command.ts'

export const serve: Command = {
  usage: 'lathe serve <folder> [--port N] [--api-key K]',
  summary: 'OpenAI-compatible server (not in this version)',
  options: {
    port: { type: 'string', value: 'N', help: 'port to listen on' },
    'api-key': { type: 'string', value: 'K', help: 'key that clients must send' },
    'kv-dtype': { type: 'string', value: 'TYPE', help: 'type of the KV cache' },
    speculate: { type: 'string', value: 'MODE', help: 'speculative decoding' },
  },
  async run() {
    throw new LatheError(
      'request.invalid',
      'The OpenAI-compatible server is not in this version of Lathe.',
      'Use `lathe chat <folder>`, or `npm start` for the studio.',
    )
  },
}
