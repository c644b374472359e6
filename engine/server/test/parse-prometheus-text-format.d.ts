declare module 'parse-prometheus-text-format' {
  /** Families of a text exposition; values as text. */
  export default function parsePrometheusTextFormat(text: string): unknown
}
