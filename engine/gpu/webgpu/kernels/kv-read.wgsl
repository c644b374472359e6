// Reading quantized rows of the cache (kv-format.ts): word 0 of a row is its scale, then codes; unquantized rows have no scale. `place` is the row's
// number. A quad is four neighbouring dimensions, without the scale, which callers apply once per row.
fn e4m3(codes: vec4<u32>) -> vec4<f32> {
  let exponent = (codes >> vec4<u32>(3u)) & vec4<u32>(15u);
  let mantissa = codes & vec4<u32>(7u);
  let normal = bitcast<vec4<f32>>(((exponent + vec4<u32>(120u)) << vec4<u32>(23u)) | (mantissa << vec4<u32>(20u)));
  let magnitude = select(normal, vec4<f32>(mantissa) * 0x1p-9f, exponent == vec4<u32>(0u));
  return select(magnitude, -magnitude, (codes & vec4<u32>(128u)) != vec4<u32>(0u));
}
fn bytesOf(word: u32) -> vec4<u32> {
  return (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u);
}
fn signedBytesOf(word: u32) -> vec4<f32> {
  return vec4<f32>((vec4<i32>(bitcast<i32>(word)) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}
fn nibblesOf(half: u32) -> vec4<f32> {
  return vec4<f32>((vec4<u32>(half) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u)) - vec4<f32>(8.0f);
}

//#if K_SCALED
fn keyScale(place: u32) -> f32 {
  return bitcast<f32>(keys[place * K_ROW]);
}
//#else
fn keyScale(place: u32) -> f32 {
  return 1.0f;
}
//#end
fn keyQuad(place: u32, quad: u32) -> vec4<f32> {
//#if K_INT8
  return signedBytesOf(keys[place * K_ROW + 1u + quad]);
//#end
//#if K_FP8
  return e4m3(bytesOf(keys[place * K_ROW + 1u + quad]));
//#end
//#if K_INT4
  return nibblesOf(keys[place * K_ROW + 1u + quad / 2u] >> (16u * (quad & 1u)));
//#end
//#if K_F16
  let word = place * K_ROW + 2u * quad;
  return vec4<f32>(unpack2x16float(keys[word]), unpack2x16float(keys[word + 1u]));
//#end
//#if K_F32
  let word = place * K_ROW + 4u * quad;
  return bitcast<vec4<f32>>(vec4<u32>(keys[word], keys[word + 1u], keys[word + 2u], keys[word + 3u]));
//#end
}

//#if V_SCALED
fn valueScale(place: u32) -> f32 {
  return bitcast<f32>(vals[place * V_ROW]);
}
//#else
fn valueScale(place: u32) -> f32 {
  return 1.0f;
}
//#end
fn valueQuad(place: u32, quad: u32) -> vec4<f32> {
//#if V_INT8
  return signedBytesOf(vals[place * V_ROW + 1u + quad]);
//#end
//#if V_FP8
  return e4m3(bytesOf(vals[place * V_ROW + 1u + quad]));
//#end
//#if V_INT4
  return nibblesOf(vals[place * V_ROW + 1u + quad / 2u] >> (16u * (quad & 1u)));
//#end
//#if V_F16
  let word = place * V_ROW + 2u * quad;
  return vec4<f32>(unpack2x16float(vals[word]), unpack2x16float(vals[word + 1u]));
//#end
//#if V_F32
  let word = place * V_ROW + 4u * quad;
  return bitcast<vec4<f32>>(vec4<u32>(vals[word], vals[word + 1u], vals[word + 2u], vals[word + 3u]));
//#end
}
