// Nearest code of a number already divided by its scale, ties to even, saturating; and what the code stands for, before scaling. Integers relative
// to their zero point; E2M1 and E4M3 as their bits (specs/compressed-tensors.md §6).
//#if E2M1
fn code_of(x: f32, zero: f32) -> u32 {
  let magnitude = abs(x);
  // Ties at the middles of 0, ½, 1, 1½, 2, 3, 4, 6.
  var index = u32(magnitude > 0.25f) + u32(magnitude >= 0.75f) + u32(magnitude > 1.25f) + u32(magnitude >= 1.75f);
  index += u32(magnitude > 2.5f) + u32(magnitude >= 3.5f) + u32(magnitude > 5.0f);
  return index | select(0u, 8u, x < 0.0f);
}
fn value_of(code: u32, zero: f32) -> f32 {
  let index = code & 7u;
  // From 2 on the exponent doubles every other step.
  let magnitude = select(select(f32(index) * 2.0f - 8.0f, f32(index) - 2.0f, index < 7u), f32(index) * 0.5f, index < 5u);
  return select(magnitude, -magnitude, (code & 8u) != 0u);
}
//#else
//#if E4M3
fn code_of(x: f32, zero: f32) -> u32 {
  let magnitude = min(abs(x), 448.0f);
  // Below the smallest normal 2^-6 codes are multiples of 2^-9.
  let small = u32(round(magnitude * 512.0f));
  let bits = bitcast<u32>(magnitude);
  let normal = ((bits + 0x7ffffu + ((bits >> 20u) & 1u)) >> 20u) - 960u;
  return select(normal, small, magnitude < 0.015625f) | select(0u, 128u, x < 0.0f);
}
fn value_of(code: u32, zero: f32) -> f32 {
  let low = code & 127u;
  let magnitude = select(bitcast<f32>((low + 960u) << 20u), f32(low) / 512.0f, low < 8u);
  return select(magnitude, -magnitude, (code & 128u) != 0u);
}
//#else
fn code_of(x: f32, zero: f32) -> u32 {
  return u32(i32(round(clamp(x + zero, MINIMUM, MAXIMUM)))) & 0xffu;
}
fn value_of(code: u32, zero: f32) -> f32 {
  return f32(i32(code << 24u) >> 24u) - zero;
}
//#end
//#end
