// partial[row, tile] = Σ over the columns i of a tile of d_i · (Σ_{j<i} 2·G_ij·d_j + G_ii·d_i): what the tile adds to d·G·dᵀ, from the lower triangle
// of one shard of G. One 64 × 64 tile per workgroup, 256 invocations, 4 × 4 sums each, 16 columns j staged at a time.
struct Immediates {
  columns: u32,
  stride: u32,
  firstRow: u32,
  tiles: u32,
}
var<immediate> form: Immediates;
/// [rows, stride], zero past `columns`.
@group(0) @binding(0) var<storage, read> differences: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> gram: array<f32>;
@group(0) @binding(2) var<storage, read_write> partial: array<f32>;
var<workgroup> left: array<f32, 1024>;
var<workgroup> right: array<f32, 1024>;
var<workgroup> shares: array<f32, 1024>;

/// What G contributes at (i, j) when every pair is met once.
fn element(i: u32, j: u32) -> f32 {
  if (i >= form.columns || j > i) {
    return 0.0f;
  }
  return gram[(i - form.firstRow) * form.columns + j] * select(2.0f, 1.0f, i == j);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let row = index / 16u;
  let column = index % 16u;
  let stagedRow = index / 4u;
  let stagedQuad = index % 4u;
  let tileRow = group.y * 64u;
  let tileColumn = form.firstRow + group.x * 64u;
//#repeat r 4
  var sum_{r} = vec4<f32>(0.0f);
//#end
  for (var k0 = 0u; k0 < tileColumn + 64u; k0 += 16u) {
    let a = differences[((tileRow + stagedRow) * form.stride + k0) / 4u + stagedQuad];
    var b: array<f32, 4>;
    for (var c = 0u; c < 4u; c++) {
      b[c] = element(tileColumn + stagedRow, k0 + stagedQuad * 4u + c);
    }
//#include tile-product
  }
//#repeat r 4
  shares[(row * 4u + {r}u) * 16u + column] = dot(sum_{r}, differences[((tileRow + row * 4u + {r}u) * form.stride + tileColumn) / 4u + column]);
//#end
  workgroupBarrier();
  if (index < 64u) {
    var total = 0.0f;
    for (var c = 0u; c < 16u; c++) {
      total += shares[index * 16u + c];
    }
    partial[(tileRow + index) * form.tiles + tileColumn / 64u] = total;
  }
}
