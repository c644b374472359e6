// Stored weights to f32, one unit at a time: sixteen bytes, or the BITS words of 32 codes of other widths. rawQuadJ gives elements 4J…4J+3 of a
// unit. Dense formats give the weight itself; 8- and 4-bit floats the weight divided by a power of two (weight-scale.wgsl).
// Packed codes q give 1 + q/2^BITS by writing the code into the top mantissa bits of 1.0 (shift, and, or; no conversion): then
// w = scale·2^BITS·(raw − center) with center = 1 + z/2^BITS, and Σ w·x = scale·2^BITS·(Σ raw·x − center·Σ x) over a group.
//#if SPARSE
//#if BF16
//#repeat j 2
fn rawQuad{j}(w: SparseUnit) -> vec4<f32> {
  let pair = w.values[{j}];
  return spread(bitcast<f32>(pair << 16u), bitcast<f32>(pair & 0xffff0000u), w.places >> {4*j}u, 0.0f);
}
//#end
//#end
//#if F16
//#repeat j 2
fn rawQuad{j}(w: SparseUnit) -> vec4<f32> {
  let pair = unpack2x16float(w.values[{j}]);
  return spread(pair.x, pair.y, w.places >> {4*j}u, 0.0f);
}
//#end
//#end
//#if INT8
//#repeat j 4
fn rawQuad{j}(w: SparseUnit) -> vec4<f32> {
  let pair = vec2<u32>(w.values[{j/2}] >> {j%2*16}u, w.values[{j/2}] >> {j%2*16+8}u) & vec2<u32>(0xffu);
  let raw = bitcast<vec2<f32>>((pair << vec2<u32>(15u)) | vec2<u32>(0x3f800000u));
  return spread(raw.x, raw.y, w.places >> {4*j}u, 1.5f);
}
//#end
//#end
//#if INT4
//#repeat j 8
fn rawQuad{j}(w: SparseUnit) -> vec4<f32> {
  let pair = vec2<u32>(w.values[{j/4}] >> {j%4*8}u, w.values[{j/4}] >> {j%4*8+4}u) & vec2<u32>(0xfu);
  let raw = bitcast<vec2<f32>>((pair << vec2<u32>(19u)) | vec2<u32>(0x3f800000u));
  return spread(raw.x, raw.y, w.places >> {4*j}u, 1.5f);
}
//#end
//#end
//#else
//#if BF16
//#repeat j 2
fn rawQuad{j}(w: vec4<u32>) -> vec4<f32> {
  let a = w[2 * {j}];
  let b = w[2 * {j} + 1];
  return bitcast<vec4<f32>>(vec4<u32>(a << 16u, a & 0xffff0000u, b << 16u, b & 0xffff0000u));
}
//#end
//#end
//#if F16
//#repeat j 2
fn rawQuad{j}(w: vec4<u32>) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(w[2 * {j}]), unpack2x16float(w[2 * {j} + 1]));
}
//#end
//#end
//#if F32
fn rawQuad0(w: vec4<u32>) -> vec4<f32> {
  return bitcast<vec4<f32>>(w);
}
//#end
//#if INT8
//#repeat j 4
fn rawQuad{j}(w: vec4<u32>) -> vec4<f32> {
  let a = w[{j}];
  return bitcast<vec4<f32>>((vec4<u32>(a << 15u, a << 7u, a >> 1u, a >> 9u) & vec4<u32>(0x007f8000u)) | vec4<u32>(0x3f800000u));
}
//#end
//#end
//#if INT4
//#repeat k 4
fn rawQuadLow{k}(w: vec4<u32>) -> vec4<f32> {
  let a = w[{k}];
  return bitcast<vec4<f32>>((vec4<u32>(a << 19u, a << 15u, a << 11u, a << 7u) & vec4<u32>(0x00780000u)) | vec4<u32>(0x3f800000u));
}
fn rawQuadHigh{k}(w: vec4<u32>) -> vec4<f32> {
  let a = w[{k}];
  return bitcast<vec4<f32>>((vec4<u32>(a << 3u, a >> 1u, a >> 5u, a >> 9u) & vec4<u32>(0x00780000u)) | vec4<u32>(0x3f800000u));
}
//#end
fn rawQuad0(w: vec4<u32>) -> vec4<f32> { return rawQuadLow0(w); }
fn rawQuad1(w: vec4<u32>) -> vec4<f32> { return rawQuadHigh0(w); }
fn rawQuad2(w: vec4<u32>) -> vec4<f32> { return rawQuadLow1(w); }
fn rawQuad3(w: vec4<u32>) -> vec4<f32> { return rawQuadHigh1(w); }
fn rawQuad4(w: vec4<u32>) -> vec4<f32> { return rawQuadLow2(w); }
fn rawQuad5(w: vec4<u32>) -> vec4<f32> { return rawQuadHigh2(w); }
fn rawQuad6(w: vec4<u32>) -> vec4<f32> { return rawQuadLow3(w); }
fn rawQuad7(w: vec4<u32>) -> vec4<f32> { return rawQuadHigh3(w); }
//#end
//#end
//#if INT_ANY
//#repeat j 8
fn rawQuad{j}(w: array<u32, BITS>) -> vec4<f32> {
  return unitFloats(vec4<u32>(
//#repeat k 4
    codeBits(w[{(4*j+k)*BITS/32}], w[{((4*j+k)*BITS+BITS-1)/32}], {(4*j+k)*BITS%32}u),
//#end
  ));
}
//#end
//#end
//#if E4M3
//#repeat j 4
fn rawQuad{j}(w: vec4<u32>) -> vec4<f32> {
  return eightBitFloats(w[{j}]);
}
//#end
//#end
//#if E2M1
//#repeat j 8
fn rawQuad{j}(w: vec4<u32>) -> vec4<f32> {
  return fourBitFloats(w[{j/2}] >> {j%2*16}u);
}
//#end
//#end
//#include weight-scale
