// Inputs of a linear as matrix units take them: halves, each row scaled by the power of two that brings its largest magnitude into [2^14, 2^15),
// so that none overflows and those down to 2^-28 of the largest keep all eleven bits. One workgroup per row; rows end in zeros up to whole
// stages. `scales` is what undoes it, exactly. A row with an infinity or a NaN keeps it.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> scales: array<f32>;

//#include half-scale

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let row = group_id.x;
  let base = row * X_STRIDE;
  var largest = 0u;
  for (var i = index; i < WIDTH; i += WORKGROUP) {
    largest = max(largest, bitcast<u32>(x[base + i]) & 0x7fffffffu);
  }
  let scale = sharedScale(index, largest);
  if (index == 0u) {
    scales[row] = inverse(scale);
  }
  for (var place = index; place < X_PLACES; place += WORKGROUP) {
    var pairs: vec4<u32>;
    for (var p = 0u; p < 4u; p++) {
      let i = 8u * place + 2u * p;
      let a = select(0.0f, x[base + min(i, WIDTH - 1u)] * scale, i < WIDTH);
      let b = select(0.0f, x[base + min(i + 1u, WIDTH - 1u)] * scale, i + 1u < WIDTH);
      pairs[p] = pack2x16float(vec2<f32>(a, b));
    }
    out[row * X_PLACES + place] = pairs;
  }
}
