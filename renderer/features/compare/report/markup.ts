/** Markup as text, escaped by construction: everything that is put into a template is escaped unless it is markup already. */

export interface Markup {
  readonly html: string
}

export function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;').replaceAll("'", '&#39;')
}

type Part = Markup | string | number | null | readonly (Markup | null)[]

function isList(part: Part): part is readonly (Markup | null)[] {
  return Array.isArray(part)
}

function render(part: Part): string {
  if (part === null) return ''
  if (isList(part)) return part.map((item) => item?.html ?? '').join('')
  return typeof part === 'object' ? part.html : escapeHtml(String(part))
}

export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Markup {
  return { html: strings.map((text, index) => text + (index < parts.length ? render(parts[index] ?? null) : '')).join('') }
}
