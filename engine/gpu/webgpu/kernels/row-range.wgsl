// For each row of a weight the power of two that brings its largest magnitude into [2^14, 2^15): what linear-matrix.wgsl multiplies weights by
// before they become halves, and undoes afterwards. One workgroup per row.
//#include weight-stored
//#include linear-bindings
//#include weight-decode
//#include weight-unit
//#include half-scale

fn largestOf(quad: vec4<f32>) -> u32 {
  let bits = bitcast<vec4<u32>>(quad) & vec4<u32>(0x7fffffffu);
  return max(max(bits.x, bits.y), max(bits.z, bits.w));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let row = group_id.x + group_id.y * GRID;
  let shardRow = min(row, params.rows - 1u);
  var largest = 0u;
  for (var unit = index; unit < UNITS; unit += WORKGROUP) {
    let weight = unitAt(shardRow, unit);
//#if PACKED
//#repeat s SPANS
    {
      let group = groupOf(unit, {s*SPAN_QUADS*4}u);
      let gain = gainOf(params.firstRow + shardRow, group);
      let center = centerOf(params.firstRow + shardRow, group);
//#repeat j SPAN_QUADS
      largest = max(largest, largestOf((rawQuad{s*SPAN_QUADS+j}(weight) - vec4<f32>(center)) * gain));
//#end
    }
//#end
//#else
//#repeat j QUADS
    largest = max(largest, largestOf(rawQuad{j}(weight)));
//#end
//#end
  }
  let scale = sharedScale(index, largest);
  if (index == 0u && row < params.rows) {
    out[params.firstRow + row] = scale;
  }
}
