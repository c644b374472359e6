// The power of two that brings the largest magnitude of a row into [2^14, 2^15), from the bits of that magnitude; 1 where it is zero or not finite.
// Held within what f32 can undo.
var<workgroup> maxima: array<u32, WORKGROUP>;
fn sharedScale(index: u32, largest: u32) -> f32 {
  maxima[index] = largest;
  workgroupBarrier();
  for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
    if (index < half) {
      maxima[index] = max(maxima[index], maxima[index + half]);
    }
    workgroupBarrier();
  }
  let exponent = i32(maxima[0] >> 23u);
  if (maxima[0] == 0u || exponent == 255) {
    return 1.0f;
  }
  // 2^(14 − (exponent − 127)), whose own exponent field is 268 − exponent.
  return bitcast<f32>(u32(clamp(268 - exponent, 1, 253)) << 23u);
}
// 1 / scale of a power of two that is neither subnormal nor the largest.
fn inverse(scale: f32) -> f32 {
  return bitcast<f32>(0x7f000000u - bitcast<u32>(scale));
}
