/** Opens an address in the user's browser. Nothing waits for it: a missing or failing opener only means that the printed address has to do. */
import { spawn } from 'node:child_process'

/** The program that opens an address on this platform. cmd needs the empty title, and `&` in an address would end its command. */
export function openCommand(platform: NodeJS.Platform, address: string): readonly [string, ...string[]] {
  if (platform === 'darwin') return ['open', address]
  if (platform === 'win32') return ['cmd.exe', '/d', '/c', 'start', '""', address.replaceAll('&', '^&')]
  return ['xdg-open', address]
}

/** True when the opener could be started. */
export function openAddress(address: string, platform: NodeJS.Platform = process.platform): Promise<boolean> {
  const [program, ...args] = openCommand(platform, address)
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: 'ignore', detached: true, windowsVerbatimArguments: platform === 'win32' })
    child.once('error', () => resolve(false))
    child.once('spawn', () => {
      child.unref()
      resolve(true)
    })
  })
}
