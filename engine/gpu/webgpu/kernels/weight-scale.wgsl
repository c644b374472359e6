// Scale and centre of a packed weight's groups, and the two sums that every linear is made of. See weight-decode for the arithmetic.
//#if INT8
const GAIN: f32 = 256.0f;
//#end
//#if INT4
const GAIN: f32 = 16.0f;
//#end
//#if INT_ANY
const GAIN: f32 = f32(1u << BITS);
// The BITS bits from `shift` on of two words that may be the same one (then nothing straddles, and what the second adds is masked away).
fn codeBits(low: u32, high: u32, shift: u32) -> u32 {
  return ((low >> shift) | ((high << (31u - shift)) << 1u)) & ((1u << BITS) - 1u);
}
fn unitFloats(codes: vec4<u32>) -> vec4<f32> {
  return bitcast<vec4<f32>>((codes << vec4<u32>(23u - BITS)) | vec4<u32>(0x3f800000u));
}
//#end
//#if FLOATS
// Small floats become halves of the same bits in other places, which is exact for subnormals too: E4M3 divided by 2^8, E2M1 by 2^14.
fn eightBitFloats(w: u32) -> vec4<f32> {
  let low = (w & 0xffu) | ((w & 0xff00u) << 8u);
  let high = ((w >> 16u) & 0xffu) | ((w >> 8u) & 0xff0000u);
  let a = ((low & 0x00800080u) << 8u) | ((low & 0x007f007fu) << 7u);
  let b = ((high & 0x00800080u) << 8u) | ((high & 0x007f007fu) << 7u);
  return vec4<f32>(unpack2x16float(a), unpack2x16float(b));
}
//#if E4M3
const GAIN: f32 = 256.0f;
//#end
//#if E2M1
const GAIN: f32 = 16384.0f;
// Of the four codes in the low sixteen bits.
fn fourBitFloats(w: u32) -> vec4<f32> {
  let low = (w & 0xfu) | ((w & 0xf0u) << 12u);
  let high = ((w >> 8u) & 0xfu) | ((w << 4u) & 0xf0000u);
  let a = ((low & 0x00080008u) << 12u) | ((low & 0x00070007u) << 9u);
  let b = ((high & 0x00080008u) << 12u) | ((high & 0x00070007u) << 9u);
  return vec4<f32>(unpack2x16float(a), unpack2x16float(b));
}
//#end
//#end
//#if PACKED
// Scale of (row, group), times what the codes were divided by.
fn gainOf(row: u32, group: u32) -> f32 {
  let index = row * groups() + group;
//#if SCALE_F32
  return bitcast<f32>(scales[index]) * GAIN;
//#end
//#if SCALE_BF16
  return bitcast<f32>((scales[index >> 1u] >> ((index & 1u) << 4u)) << 16u) * GAIN;
//#end
//#if SCALE_F16
  return unpack2x16float(scales[index >> 1u] >> ((index & 1u) << 4u)).x * GAIN;
//#end
//#if SCALE_E4M3
  return eightBitFloats(scales[index >> 2u] >> ((index & 3u) << 3u)).x * (256.0f * GAIN);
//#end
//#if SCALE_E8M0
  return bitcast<f32>(((scales[index >> 2u] >> ((index & 3u) << 3u)) & 0xffu) << 23u) * GAIN;
//#end
}
fn centerOf(row: u32, group: u32) -> f32 {
//#if ZERO
  let bit = row * BITS;
//#if INT_ANY
  let code = codeBits(zeros[(bit >> 5u) * groups() + group], zeros[((bit + BITS - 1u) >> 5u) * groups() + group], bit & 31u);
//#else
  let code = (zeros[(bit >> 5u) * groups() + group] >> (bit & 31u)) & ((1u << BITS) - 1u);
//#end
  return bitcast<f32>(0x3f800000u | (code << (23u - BITS)));
//#else
//#if FLOATS
  return 0.0f;
//#else
  return 1.5f;
//#end
//#end
}
//#end
fn dotQuad(w: vec4<f32>, x: vec4<f32>, sum: f32) -> f32 {
  return fma(w.w, x.w, fma(w.z, x.z, fma(w.y, x.y, fma(w.x, x.x, sum))));
}
fn sumQuad(x: vec4<f32>) -> f32 {
  return (x.x + x.y) + (x.z + x.w);
}
