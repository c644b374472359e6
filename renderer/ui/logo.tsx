/** The mark: a turned profile between the centres of a lathe. Drawn in currentColor; the accent is the cut. */
export function LogoMark({ size = 22 }: { readonly size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 24 24" fill="none" aria-hidden>
      <path d="M1.5 12h3M19.5 12h3" stroke="currentColor" strokeWidth="1.5" strokeLinecap="round" opacity="0.55" />
      <path d="M5.5 6.5h2.6l1.6 2.4h2.1l1.5-3h1.5l2.7 3.4v5.4l-2.7 3.4h-1.5l-1.5-3H9.7l-1.6 2.4H5.5Z" fill="currentColor" />
      <path d="M5.5 12h12" stroke="var(--rail)" strokeWidth="1" strokeDasharray="2.2 1.6" />
    </svg>
  )
}

export function Wordmark() {
  return (
    <span
      style={{
        display: 'inline-flex',
        alignItems: 'center',
        gap: '0.5rem',
        fontWeight: 650,
        letterSpacing: '-0.015em',
        fontSize: '0.9375rem',
      }}
    >
      <LogoMark />
      <span>Lathe</span>
    </span>
  )
}
