// Scale and centre of a packed weight's groups, and the two sums that every linear is made of. See weight-decode for the arithmetic.
//#if INT8
const GAIN: f32 = 256.0f;
//#end
//#if INT4
const GAIN: f32 = 16.0f;
//#end
//#if PACKED
// Scale of (row, group), times 2^BITS.
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
}
fn centerOf(row: u32, group: u32) -> f32 {
//#if ZERO
  let bit = row * BITS;
  let code = (zeros[(bit >> 5u) * groups() + group] >> (bit & 31u)) & ((1u << BITS) - 1u);
  return bitcast<f32>(0x3f800000u | (code << (23u - BITS)));
//#else
  return 1.5f;
//#end
}
//#end
fn dotQuad(w: vec4<f32>, x: vec4<f32>, sum: f32) -> f32 {
  return fma(w.w, x.w, fma(w.z, x.z, fma(w.y, x.y, fma(w.x, x.x, sum))));
}
fn sumQuad(x: vec4<f32>) -> f32 {
  return (x.x + x.y) + (x.z + x.w);
}
