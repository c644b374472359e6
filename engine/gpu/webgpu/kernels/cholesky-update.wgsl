// What remains after a panel: A −= X·Xᵀ on the lower triangle right of it, one 64 × 64 tile per workgroup. 256 invocations, 4 × 4 sums each.
struct Immediates {
  firstRow: u32,
  localRow: u32,
  firstColumn: u32,
  stride: u32,
}
var<immediate> region: Immediates;
@group(0) @binding(0) var<storage, read> panel: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> matrix: array<f32>;
var<workgroup> left: array<f32, 1024>;
var<workgroup> right: array<f32, 1024>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let tileRow = region.firstRow + group.y * 64u;
  let tileColumn = region.firstColumn + group.x * 64u;
  if (tileColumn > tileRow) {
    return;
  }
  let row = index / 16u;
  let column = index % 16u;
  let stagedRow = index / 4u;
  let stagedQuad = index % 4u;
//#repeat r 4
  var sum_{r} = vec4<f32>(0.0f);
//#end
  for (var step = 0u; step < 4u; step++) {
    let a = panel[(tileRow + stagedRow) * 16u + step * 4u + stagedQuad];
    let b = panel[(tileColumn + stagedRow) * 16u + step * 4u + stagedQuad];
//#include tile-product
  }
//#repeat r 4
  {
    let at = (region.localRow + group.y * 64u + row * 4u + {r}u) * region.stride + tileColumn + column * 4u;
    matrix[at] -= sum_{r}.x;
    matrix[at + 1u] -= sum_{r}.y;
    matrix[at + 2u] -= sum_{r}.z;
    matrix[at + 3u] -= sum_{r}.w;
  }
//#end
}
