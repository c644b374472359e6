// L with A = L·Lᵀ of one 64 × 64 block on the diagonal, one row per invocation. The block is held transposed, so that the lanes' accesses are
// neighbours. A pivot that is not clearly positive against its own start is counted in `status` and replaced, so that all ends.
struct Immediates {
  localRow: u32,
  column: u32,
  stride: u32,
}
var<immediate> block: Immediates;
@group(0) @binding(0) var<storage, read> start: array<f32>;
@group(0) @binding(1) var<storage, read_write> matrix: array<f32>;
@group(0) @binding(2) var<storage, read_write> factor: array<f32>;
@group(0) @binding(3) var<storage, read_write> pivots: array<f32>;
@group(0) @binding(4) var<storage, read_write> status: array<u32>;
var<workgroup> tile: array<f32, 4096>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) i: u32) {
  let row = (block.localRow + i) * block.stride + block.column;
  for (var j = 0u; j < 64u; j++) {
    tile[j * 64u + i] = matrix[row + j];
  }
  for (var k = 0u; k < 64u; k++) {
    workgroupBarrier();
    let pivot = tile[k * 64u + k];
    let good = pivot > PIVOT_FLOOR * start[block.column + k] && pivot < 3.0e38f;
    let root = sqrt(select(1.0f, pivot, good));
    workgroupBarrier();
    if (i == k) {
      tile[k * 64u + k] = root;
      pivots[block.column + k] = root;
      if (!good) {
        status[0] += 1u;
      }
    }
    var scaled = 0.0f;
    if (i > k) {
      scaled = tile[k * 64u + i] / root;
      tile[k * 64u + i] = scaled;
    }
    workgroupBarrier();
    if (i > k) {
      for (var j = k + 1u; j <= i; j++) {
        tile[j * 64u + i] -= scaled * tile[k * 64u + j];
      }
    }
  }
  workgroupBarrier();
  for (var j = 0u; j < 64u; j++) {
    let value = select(0.0f, tile[j * 64u + i], j <= i);
    if (j <= i) {
      matrix[row + j] = value;
    }
    factor[i * 64u + j] = value;
  }
}
