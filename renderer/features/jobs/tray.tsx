/** The jobs tray. */
export function JobsTray() {
  return null
}
