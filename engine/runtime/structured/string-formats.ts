/** The `format`s of JSON-schema strings as regular expressions, each a subset of what its RFC allows that every validator accepts. */

const DAY = '((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))'
const DATE = `(19|20)\\d\\d-${DAY}`
const TIME = '([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)'
const OCTET = '(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)'
const LABEL = '[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?'
const HOST = `${LABEL}(\\.${LABEL}){0,6}`

export const STRING_FORMATS: Readonly<Record<string, string>> = {
  date: DATE,
  time: TIME,
  'date-time': `${DATE}T${TIME}`,
  duration: 'P(\\d{1,4}D(T\\d{1,4}(H\\d{1,2}M\\d{1,2}S|M\\d{1,2}S|S|H|M))?|T\\d{1,4}(H\\d{1,2}M\\d{1,2}S|M\\d{1,2}S|S|H|M)|\\d{1,4}W)',
  uuid: '[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}',
  ipv4: `${OCTET}(\\.${OCTET}){3}`,
  ipv6: '[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}',
  hostname: HOST,
  email: `[A-Za-z0-9_+-]{1,32}(\\.[A-Za-z0-9_+-]{1,32}){0,3}@${LABEL}(\\.${LABEL}){1,4}`,
  uri: `https?://${HOST}(:[1-9]\\d{0,3})?(/[A-Za-z0-9._~-]{1,64}){0,8}/?(\\?[A-Za-z0-9._~=&-]{0,128})?(#[A-Za-z0-9._~-]{0,64})?`,
}
