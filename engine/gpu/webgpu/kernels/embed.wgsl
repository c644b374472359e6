// out[t] = weight[tokenIds[t]] · factor, for the rows of one shard. One workgroup per token.
struct Params {
  firstRow: u32,
  rows: u32,
}
var<immediate> params: Params;
//#if INT_ANY
@group(0) @binding(0) var<storage, read> values: array<array<u32, BITS>>;
//#else
@group(0) @binding(0) var<storage, read> values: array<vec4<u32>>;
//#end
@group(0) @binding(1) var<storage, read> tokenIds: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
//#if PACKED
@group(0) @binding(3) var<storage, read> scales: array<u32>;
//#end
//#if ZERO
@group(0) @binding(4) var<storage, read> zeros: array<u32>;
//#end
//#if ROW_GAIN
@group(0) @binding(4) var<storage, read> rowGains: array<f32>;
//#end
//#if PACKED
fn groups() -> u32 { return GROUPS; }
//#end
//#include weight-decode

fn write(row: u32, token: u32, element: u32, raw: vec4<f32>) {
//#repeat k 4
  if (element + {k}u < COLS) {
//#if PACKED
    let group = (element + {k}u) / GROUP_SIZE;
//#if ROW_GAIN
    let value = gainOf(row, group) * raw[{k}] * rowGains[row];
//#else
    let value = gainOf(row, group) * (raw[{k}] - centerOf(row, group));
//#end
//#else
    let value = raw[{k}];
//#end
    out[token * OUT_STRIDE + element + {k}u] = value * FACTOR;
  }
//#end
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let token = group_id.x;
  let id = tokenIds[token];
  if (id < params.firstRow || id >= params.firstRow + params.rows) {
    return;
  }
  for (var unit = index; unit < UNITS; unit += WORKGROUP) {
    let weight = values[(id - params.firstRow) * UNITS + unit];
//#repeat j QUADS
    write(id, token, unit * UNIT_ELEMENTS + 4u * {j}u, rawQuad{j}(weight));
//#end
  }
}
