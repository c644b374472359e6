/** The report's looks: one sheet, system fonts, light and dark, and a printed form. Refers to nothing outside itself. */

export const SERIES_LIGHT = ['#4a4f57', '#2361d1', '#c2571a', '#1d8a62', '#c02a83', '#8a7415', '#7a3fc4', '#1f7f9b'] as const
const SERIES_DARK = ['#b9bdc4', '#7aa6ff', '#f09a61', '#58c79b', '#f086c2', '#d8c04f', '#bd93f5', '#6cc3df'] as const

function series(colors: readonly string[]): string {
  return colors.map((color, index) => `--s${index}:${color}`).join(';')
}

export const REPORT_STYLE = `
:root{color-scheme:light dark;--text:#1b1f27;--muted:#5a616d;--line:#dfe2e7;--soft:#f4f5f7;--good:#146c43;--bad:#b3261e;--page:#fff;${series(SERIES_LIGHT)}}
@media (prefers-color-scheme:dark){:root{--text:#e8eaee;--muted:#a5acb8;--line:#343a45;--soft:#1d2129;--good:#6fd6a4;--bad:#ff9a92;--page:#14171d;${series(SERIES_DARK)}}}
*{box-sizing:border-box}
body{font:14px/1.5 system-ui,sans-serif;max-width:72rem;margin:2.5rem auto;padding:0 1.25rem;color:var(--text);background:var(--page)}
h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.1rem;margin:2.25rem 0 .5rem}h3{font-size:.9rem;margin:1rem 0 .25rem}
p{margin:.25rem 0}.muted{color:var(--muted);font-size:12px}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .6rem;border-bottom:1px solid var(--line);text-align:right;vertical-align:top}
th:first-child,td:first-child{text-align:left}tbody th{font-weight:500}thead th{font-weight:600}
.group th{background:var(--soft);font-size:12px;color:var(--muted)}
.range,.delta{display:block;color:var(--muted);font-size:11px}.best{font-weight:700}
.not-comparable{color:var(--muted);text-decoration:underline dotted}
.verdict{display:inline-block;padding:0 .4rem;border:1px solid currentColor;border-radius:4px;font-size:12px}
.non-inferior{color:var(--good)}.worse{color:var(--bad)}.inconclusive{color:var(--muted)}
svg{max-width:100%;height:auto;display:block}svg text{fill:var(--muted);font:11px system-ui,sans-serif}svg .label{fill:var(--text);font-weight:600;paint-order:stroke;stroke:var(--page);stroke-width:4px;stroke-linejoin:round}
.axis{stroke:var(--line)}.frontier{fill:none;stroke:var(--muted);stroke-dasharray:4 4}
.bars{display:grid;grid-template-columns:repeat(auto-fill,minmax(18rem,1fr));gap:1rem 2rem}
.bar{display:grid;grid-template-columns:9rem 1fr 6.5rem;gap:.5rem;align-items:center;font-size:12px}.bar span:last-child{text-align:right}
.track{height:9px;background:var(--soft)}.fill{height:9px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:.25rem 0}dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:11px;color:var(--muted);background:var(--soft);padding:.75rem;border-radius:6px}
@media print{details{display:none}body{margin:0}}
`.trim()
