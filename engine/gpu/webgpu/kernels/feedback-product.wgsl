// moved[:, columns] (+)= errors[:, from … to) · panel[from … to, columns): what earlier errors add to the columns of a block. One 64 × 64 tile per
// workgroup, 256 invocations, 4 × 4 sums each, 16 earlier columns staged at a time; additions in processing order.
struct Immediates {
  errorStride: u32,
  start: u32,
  end: u32,
  firstColumn: u32,
  accumulate: u32,
}
var<immediate> block: Immediates;
@group(0) @binding(0) var<storage, read> errors: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> panel: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> moved: array<vec4<f32>>;
var<workgroup> left: array<f32, 1024>;
var<workgroup> right: array<vec4<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let row = index / 16u;
  let column = index % 16u;
  let stagedRow = index / 4u;
  let stagedQuad = index % 4u;
  let tileRow = group.y * 64u;
  let tileQuad = (block.firstColumn + group.x * 64u) / 4u;
//#repeat r 4
  var sum_{r} = vec4<f32>(0.0f);
//#end
  for (var k0 = block.start; k0 < block.end; k0 += 16u) {
    let a = errors[((tileRow + stagedRow) * block.errorStride + k0) / 4u + stagedQuad];
    let b = panel[(k0 + row) * (PANEL_COLUMNS / 4u) + tileQuad + column];
    workgroupBarrier();
    for (var c = 0u; c < 4u; c++) {
      left[(stagedQuad * 4u + c) * 64u + stagedRow] = a[c];
    }
    right[index] = b;
    workgroupBarrier();
    for (var k = 0u; k < 16u; k++) {
      let l = k * 64u + row * 4u;
      let b = right[k * 16u + column];
//#repeat r 4
      sum_{r} = fma(vec4<f32>(left[l + {r}u]), b, sum_{r});
//#end
    }
  }
//#repeat r 4
  {
    let at = (tileRow + row * 4u + {r}u) * (PANEL_COLUMNS / 4u) + tileQuad + column;
    if (block.accumulate == 1u) {
      moved[at] += sum_{r};
    } else {
      moved[at] = sum_{r};
    }
  }
//#end
}
