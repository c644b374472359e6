/**
 * Integer codes of 1–8 bits ↔ dense int32 words, in the layout of specs/compressed-tensors.md §5.1 (the dense one of compressed-tensors
 * ≥ 0.17): code q is stored as q + 2^(b−1), element i of a row occupies bits [i·b, i·b + b), least significant bit first, and may straddle
 * two words; a row ends on a word boundary with zeros. Zero points use the same rule down each column. Knows no scales.
 */

function checkBits(bits: number): void {
  if (!Number.isInteger(bits) || bits < 1 || bits > 8) throw new RangeError(`codes of ${bits} bits: 1 to 8 are possible`)
}

/** Words that `count` codes occupy: ceil(count·bits / 32). */
export function packedWords(count: number, bits: number): number {
  return Math.ceil((count * bits) / 32)
}

/**
 * Signed codes [rows, cols] → words [rows, ceil(cols·bits/32)]. Codes must lie in [−2^(b−1), 2^(b−1) − 1]; higher bits are dropped.
 * Throws RangeError when a length does not fit the shape.
 */
export function packRows(codes: Int8Array, rows: number, cols: number, bits: number, out?: Int32Array): Int32Array {
  checkBits(bits)
  const wordsPerRow = packedWords(cols, bits)
  if (codes.length !== rows * cols) throw new RangeError(`${codes.length} codes for a ${rows} × ${cols} matrix`)
  const words = out ?? new Int32Array(rows * wordsPerRow)
  if (words.length !== rows * wordsPerRow) throw new RangeError(`out holds ${words.length} words, ${rows * wordsPerRow} needed`)
  const quads = codes.byteOffset % 4 === 0 ? new Int32Array(codes.buffer, codes.byteOffset, codes.length >>> 2) : null
  if (quads !== null && bits === 8 && cols % 4 === 0) {
    // q + 128 flips only the top bit, four codes at a time.
    for (let i = 0; i < quads.length; i++) words[i] = (quads[i] as number) ^ 0x80808080
  } else if (quads !== null && bits === 4 && cols % 8 === 0) {
    for (let i = 0, k = 0; i < words.length; i++, k += 2) {
      words[i] = nibbles(quads[k] as number) | (nibbles(quads[k + 1] as number) << 16)
    }
  } else {
    const offset = 1 << (bits - 1)
    const mask = (1 << bits) - 1
    words.fill(0)
    for (let row = 0; row < rows; row++) {
      packStrided(codes, row * cols, 1, cols, bits, offset, mask, words, row * wordsPerRow, 1)
    }
  }
  return words
}

// Four signed bytes → four offset-binary nibbles in the low 16 bits. (q + 8) mod 16 is q's low nibble with its top bit flipped.
function nibbles(quad: number): number {
  const x = (quad & 0x0f0f0f0f) ^ 0x08080808
  const y = (x | (x >>> 4)) & 0x00ff00ff
  return (y | (y >>> 8)) & 0xffff
}

function packStrided(
  codes: Int8Array,
  codeStart: number,
  codeStride: number,
  count: number,
  bits: number,
  offset: number,
  mask: number,
  words: Int32Array,
  wordStart: number,
  wordStride: number,
): void {
  let word = 0
  let filled = 0
  let target = wordStart
  for (let i = 0, at = codeStart; i < count; i++, at += codeStride) {
    const value = ((codes[at] as number) + offset) & mask
    word |= value << filled
    filled += bits
    if (filled >= 32) {
      words[target] = word
      target += wordStride
      filled -= 32
      word = filled === 0 ? 0 : value >>> (bits - filled)
    }
  }
  if (filled > 0) words[target] = word
}

/** Inverse of `packRows`: words [rows, ceil(cols·bits/32)] → signed codes [rows, cols]. */
export function unpackRows(words: Int32Array, rows: number, cols: number, bits: number, out?: Int8Array): Int8Array {
  checkBits(bits)
  const wordsPerRow = packedWords(cols, bits)
  if (words.length !== rows * wordsPerRow) throw new RangeError(`${words.length} words for ${rows} × ${cols} codes of ${bits} bits`)
  const codes = out ?? new Int8Array(rows * cols)
  if (codes.length !== rows * cols) throw new RangeError(`out holds ${codes.length} codes, ${rows * cols} needed`)
  const quads = codes.byteOffset % 4 === 0 ? new Int32Array(codes.buffer, codes.byteOffset, codes.length >>> 2) : null
  if (quads !== null && bits === 8 && cols % 4 === 0) {
    for (let i = 0; i < quads.length; i++) quads[i] = (words[i] as number) ^ 0x80808080
  } else if (quads !== null && bits === 4 && cols % 8 === 0) {
    for (let i = 0, k = 0; i < words.length; i++, k += 2) {
      const word = words[i] as number
      quads[k] = signedBytes(word & 0xffff)
      quads[k + 1] = signedBytes(word >>> 16)
    }
  } else {
    const offset = 1 << (bits - 1)
    const mask = (1 << bits) - 1
    for (let row = 0; row < rows; row++) unpackStrided(words, row * wordsPerRow, 1, cols, bits, offset, mask, codes, row * cols, 1)
  }
  return codes
}

// Four offset-binary nibbles in the low 16 bits → four signed bytes.
function signedBytes(half: number): number {
  const y = (half | (half << 8)) & 0x00ff00ff
  const x = ((y | (y << 4)) & 0x0f0f0f0f) ^ 0x08080808
  // Sign-extend each nibble within its byte: 0xf0 wherever bit 3 is set.
  const negative = (x & 0x08080808) >>> 3
  return x | Math.imul(negative, 0xf0)
}

function unpackStrided(
  words: Int32Array,
  wordStart: number,
  wordStride: number,
  count: number,
  bits: number,
  offset: number,
  mask: number,
  codes: Int8Array,
  codeStart: number,
  codeStride: number,
): void {
  let bit = 0
  let source = wordStart
  for (let i = 0, at = codeStart; i < count; i++, at += codeStride) {
    let value = (words[source] as number) >>> bit
    bit += bits
    if (bit >= 32) {
      bit -= 32
      source += wordStride
      if (bit > 0) value |= (words[source] as number) << (bits - bit)
    }
    codes[at] = (value & mask) - offset
  }
}

/** Zero points [rows, groups] → words [ceil(rows·bits/32), groups], packed down each column. */
export function packColumns(zeroPoints: Int8Array, rows: number, groups: number, bits: number): Int32Array {
  checkBits(bits)
  if (zeroPoints.length !== rows * groups) throw new RangeError(`${zeroPoints.length} zero points for a ${rows} × ${groups} matrix`)
  const words = new Int32Array(packedWords(rows, bits) * groups)
  const offset = 1 << (bits - 1)
  const mask = (1 << bits) - 1
  for (let group = 0; group < groups; group++) packStrided(zeroPoints, group, groups, rows, bits, offset, mask, words, group, groups)
  return words
}

/** Inverse of `packColumns`. */
export function unpackColumns(words: Int32Array, rows: number, groups: number, bits: number): Int8Array {
  checkBits(bits)
  if (words.length !== packedWords(rows, bits) * groups) {
    throw new RangeError(`${words.length} words for ${rows} × ${groups} zero points of ${bits} bits`)
  }
  const zeroPoints = new Int8Array(rows * groups)
  const offset = 1 << (bits - 1)
  const mask = (1 << bits) - 1
  for (let group = 0; group < groups; group++) unpackStrided(words, group, groups, rows, bits, offset, mask, zeroPoints, group, groups)
  return zeroPoints
}
