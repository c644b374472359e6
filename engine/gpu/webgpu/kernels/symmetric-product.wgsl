// product[:, i] = Σ_j x[:, j] · G_ij for the rows i of one shard of a symmetric G, both triangles filled. One 64 × 64 tile per workgroup, 256
// invocations, 4 × 4 sums each, 16 columns j staged at a time.
struct Immediates {
  columns: u32,
  stride: u32,
  firstRow: u32,
}
var<immediate> shard: Immediates;
/// [rows, stride], zero past `columns`.
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> gram: array<f32>;
@group(0) @binding(2) var<storage, read_write> product: array<vec4<f32>>;
var<workgroup> left: array<f32, 1024>;
var<workgroup> right: array<f32, 1024>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let row = index / 16u;
  let column = index % 16u;
  let stagedRow = index / 4u;
  let stagedQuad = index % 4u;
  let tileRow = group.y * 64u;
  let tileColumn = shard.firstRow + group.x * 64u;
//#repeat r 4
  var sum_{r} = vec4<f32>(0.0f);
//#end
  for (var k0 = 0u; k0 < shard.stride; k0 += 16u) {
    let a = x[((tileRow + stagedRow) * shard.stride + k0) / 4u + stagedQuad];
    var b = array<f32, 4>(0.0f, 0.0f, 0.0f, 0.0f);
    for (var c = 0u; c < 4u; c++) {
      let i = tileColumn + stagedRow;
      let j = k0 + stagedQuad * 4u + c;
      if (i < shard.columns && j < shard.columns) {
        b[c] = gram[(i - shard.firstRow) * shard.columns + j];
      }
    }
//#include tile-product
  }
//#repeat r 4
  product[((tileRow + row * 4u + {r}u) * shard.stride + tileColumn) / 4u + column] = sum_{r};
//#end
}
