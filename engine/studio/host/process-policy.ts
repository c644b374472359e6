/** What the engine decides about its own process before it starts: whether this user should run it, and where its data live. Pure functions. */
import { join } from 'node:path'

export interface ProcessFacts {
  readonly platform: NodeJS.Platform
  readonly env: Readonly<Record<string, string | undefined>>
  readonly homeFolder: string
  /** Null on Windows. */
  readonly userId: number | null
}

/**
 * root is normal in a container and a mistake behind `sudo`: there it would leave root-owned files in the user's data folder and give every
 * page that finds a hole the whole machine. So sudo is refused, any other root is warned, and LATHE_ALLOW_ROOT=1 or CI settles it.
 */
export function rootPolicy({ userId, env }: ProcessFacts): 'fine' | 'warn' | 'refuse' {
  if (userId !== 0 || env['LATHE_ALLOW_ROOT'] === '1' || isTrue(env['CI'])) return 'fine'
  return env['SUDO_UID'] !== undefined && env['SUDO_UID'] !== '0' ? 'refuse' : 'warn'
}

/** LATHE_DATA if set, otherwise the place that the platform gives to an application's data. Every shell and the CLI share it. */
export function defaultDataFolder({ platform, env, homeFolder }: ProcessFacts): string {
  if (env['LATHE_DATA']) return env['LATHE_DATA']
  if (platform === 'win32') return join(env['APPDATA'] || join(homeFolder, 'AppData', 'Roaming'), 'Lathe')
  if (platform === 'darwin') return join(homeFolder, 'Library', 'Application Support', 'Lathe')
  return join(env['XDG_DATA_HOME'] || join(homeFolder, '.local', 'share'), 'lathe')
}

function isTrue(value: string | undefined): boolean {
  return value !== undefined && value !== '' && value !== '0' && value !== 'false'
}
