// @ts-check
/**
 * Finds a Chromium for the end-to-end tests, and the SwiftShader Vulkan driver that ships beside it.
 * Order: LATHE_CHROMIUM, the system's, the one that Playwright downloaded. Snap's wrapper is skipped: it cannot see the tests' temporary folders.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'

const SYSTEM_BROWSERS = {
  linux: ['/usr/bin/chromium', '/usr/bin/google-chrome-stable', '/usr/bin/google-chrome', '/usr/bin/chromium-browser'],
  darwin: ['/Applications/Google Chrome.app/Contents/MacOS/Google Chrome', '/Applications/Chromium.app/Contents/MacOS/Chromium'],
  win32: [
    'C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe',
    'C:\\Program Files (x86)\\Microsoft\\Edge\\Application\\msedge.exe',
    'C:\\Program Files\\Microsoft\\Edge\\Application\\msedge.exe',
  ],
}

/** Manifests of SwiftShader beside the browsers above, where the distribution keeps them. */
const SWIFTSHADER_MANIFESTS = [
  '/usr/lib/chromium/vk_swiftshader_icd.json',
  '/opt/google/chrome/vk_swiftshader_icd.json',
  '/usr/lib/chromium-browser/vk_swiftshader_icd.json',
]

/**
 * @param {{ platform?: NodeJS.Platform, env?: Record<string, string | undefined>, exists?: (path: string) => boolean }} [where]
 * @returns {string | null}
 */
export function findChromium({ platform = process.platform, env = process.env, exists = isProgram } = {}) {
  if (env['LATHE_CHROMIUM']) return env['LATHE_CHROMIUM']
  const system = /** @type {Record<string, readonly string[]>} */ (SYSTEM_BROWSERS)[platform] ?? []
  return [...system, ...playwrightBrowsers(platform, env)].find((path) => exists(path)) ?? null
}

/** The SwiftShader manifest, for tests that want a second software adapter; null where there is none. */
export function findSwiftShader({ exists = existsSync, chromium = findChromium() } = {}) {
  const beside = chromium ? [join(dirname(chromium), 'vk_swiftshader_icd.json')] : []
  return [...SWIFTSHADER_MANIFESTS, ...beside].find((path) => exists(path)) ?? null
}

/** The lavapipe manifest of Mesa; some distributions put the architecture into its name. @param {string} [folder] */
export function findLavapipe(folder = '/usr/share/vulkan/icd.d') {
  const name = existsSync(folder) ? readdirSync(folder).find((file) => /^lvp_icd(\.\w+)?\.json$/.test(file)) : undefined
  return name ? join(folder, name) : null
}

/** @param {string} path */
function isProgram(path) {
  if (!existsSync(path)) return false
  // A snap stub is a short shell script; the real binaries and Debian's wrapper do not mention snap.
  return statSync(path).size > 64 * 1024 || !readFileSync(path, 'latin1').includes('snap')
}

/** @param {NodeJS.Platform} platform @param {Record<string, string | undefined>} env @returns {string[]} newest first */
function playwrightBrowsers(platform, env) {
  const folder =
    env['PLAYWRIGHT_BROWSERS_PATH'] ??
    {
      linux: join(homedir(), '.cache', 'ms-playwright'),
      darwin: join(homedir(), 'Library', 'Caches', 'ms-playwright'),
      win32: join(homedir(), 'AppData', 'Local', 'ms-playwright'),
    }[/** @type {'linux' | 'darwin' | 'win32'} */ (platform)]
  if (!folder || !existsSync(folder)) return []
  const programs = [
    'chrome-linux64/chrome',
    'chrome-linux/chrome',
    'chrome-mac-arm64/Google Chrome for Testing.app/Contents/MacOS/Google Chrome for Testing',
    'chrome-mac-x64/Google Chrome for Testing.app/Contents/MacOS/Google Chrome for Testing',
    'chrome-mac/Chromium.app/Contents/MacOS/Chromium',
    'chrome-win64/chrome.exe',
    'chrome-win/chrome.exe',
  ]
  return readdirSync(folder)
    .filter((name) => /^chromium-\d+$/.test(name))
    .toSorted((a, b) => Number(b.slice(9)) - Number(a.slice(9)))
    .flatMap((name) => programs.map((program) => join(folder, name, program)))
}
