// The block's own part of the factor, [64, 64], for a kernel with the bindings `block` and `panel`.
var<workgroup> factor: array<f32, 4096>;

/// By all 64 invocations, each a column.
fn load_factor(index: u32) {
  for (var i = 0u; i < block.count; i++) {
    factor[i * 64u + index] = panel[(block.first + i) * PANEL_COLUMNS + block.panelColumn + index];
  }
  workgroupBarrier();
}
