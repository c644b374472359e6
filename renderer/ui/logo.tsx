/**
 * The mark: a turned baluster, as it stands between the centres of a lathe. Symmetric about its axis, as everything turned is; the two grooves are cuts.
 * Drawn in currentColor so that it follows the text.
 */
export function LogoMark({ size = 22 }: { readonly size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 24 24" aria-hidden fill="currentColor">
      <rect x="6.5" y="2" width="11" height="2.75" rx="1.1" />
      <path d="M9.6 5.9h4.8c0 1.7 3.7 2.6 4.3 5.4H5.3c.6-2.8 4.3-3.7 4.3-5.4Z" />
      <path d="M5.3 12.7h13.4c-.2 2.3-3.9 3.2-3.9 5.4H9.2c0-2.2-3.7-3.1-3.9-5.4Z" opacity="0.62" />
      <rect x="6.5" y="19.25" width="11" height="2.75" rx="1.1" />
    </svg>
  )
}

export function Wordmark() {
  return (
    <span
      style={{
        display: 'inline-flex',
        alignItems: 'center',
        gap: '0.4375rem',
        fontWeight: 650,
        letterSpacing: '-0.015em',
        fontSize: '0.9375rem',
      }}
    >
      <LogoMark size={20} />
      <span>Lathe</span>
    </span>
  )
}
