// out = x · weightᵀ for 8-bit codes on both sides: sixteen products of integers per load, summed exactly, so that neither the order of additions
// nor whether the adapter has a packed dot product can change a bit. LANES neighbouring invocations share a row. One scale per row of the
// weight and one per input: out = Σ q·p · (row's scale · input's scale).
struct Params {
  columns: u32,
  firstRow: u32,
  rows: u32,
  outOffset: u32,
  outStride: u32,
  // 1: add to what is there; 2: add the bias.
  flags: u32,
}
var<immediate> params: Params;
//#if SPARSE
@group(0) @binding(0) var<storage, read> values: array<vec2<u32>>;
@group(0) @binding({POSITIONS_BINDING}) var<storage, read> positions: array<u32>;
//#else
@group(0) @binding(0) var<storage, read> values: array<vec4<u32>>;
//#end
@group(0) @binding(1) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> scales: array<u32>;
@group(0) @binding({INPUT_SCALES_BINDING}) var<storage, read> inputScales: array<f32>;
fn groups() -> u32 { return 1u; }
//#include weight-scale

// sums[lane][team][row][column]
var<workgroup> sums: array<i32, WORKGROUP * ROWS * COLUMNS>;

fn dotFour(a: u32, b: u32) -> i32 {
//#if PACKED_DOT
  return dot4I8Packed(a, b);
//#else
  let left = vec4<i32>(vec4<u32>(a << 24u, a << 16u, a << 8u, a)) >> vec4<u32>(24u);
  let right = vec4<i32>(vec4<u32>(b << 24u, b << 16u, b << 8u, b)) >> vec4<u32>(24u);
  return dot(left, right);
//#end
}

// Stored as q + 128: the top bit turns it back into q.
fn codesOf(row: u32, unit: u32) -> vec4<u32> {
//#if SPARSE
  // Two codes of every four columns, put where they belong; the others are 0.
  let kept = values[row * UNITS + unit] ^ vec2<u32>(0x80808080u);
  let places = positions[row * POSITION_WORDS + (unit >> 1u)] >> ((unit & 1u) << 4u);
  let first = (vec4<u32>(kept.x, kept.x >> 16u, kept.y, kept.y >> 16u)) & vec4<u32>(0xffu);
  let second = (vec4<u32>(kept.x >> 8u, kept.x >> 24u, kept.y >> 8u, kept.y >> 24u)) & vec4<u32>(0xffu);
  let quads = vec4<u32>(places, places >> 4u, places >> 8u, places >> 12u);
  return (first << ((quads & vec4<u32>(3u)) << vec4<u32>(3u))) | (second << (((quads >> vec4<u32>(2u)) & vec4<u32>(3u)) << vec4<u32>(3u)));
//#else
  return values[row * UNITS + unit] ^ vec4<u32>(0x80808080u);
//#end
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let lane = index % LANES;
  let team = index / LANES;
  let firstRow = (group_id.x * TEAMS + team) * ROWS;
  let firstColumn = group_id.y * COLUMNS;
//#repeat r ROWS
  let row_{r} = min(firstRow + {r}u, params.rows - 1u);
//#end
//#repeat c COLUMNS
  let column_{c} = min(firstColumn + {c}u, params.columns - 1u);
//#repeat r ROWS
  var sum_{r}_{c} = 0i;
//#end
//#end
  for (var unit = lane; unit < UNITS; unit += LANES) {
//#repeat c COLUMNS
    let x_{c} = codes[column_{c} * UNITS + unit];
//#end
//#repeat r ROWS
    let w_{r} = codesOf(row_{r}, unit);
//#repeat c COLUMNS
    sum_{r}_{c} += dotFour(w_{r}.x, x_{c}.x) + dotFour(w_{r}.y, x_{c}.y) + dotFour(w_{r}.z, x_{c}.z) + dotFour(w_{r}.w, x_{c}.w);
//#end
//#end
  }
//#repeat r ROWS
//#repeat c COLUMNS
  sums[((lane * TEAMS + team) * ROWS + {r}u) * COLUMNS + {c}u] = sum_{r}_{c};
//#end
//#end
  workgroupBarrier();
  for (var i = index; i < TEAMS * ROWS * COLUMNS; i += WORKGROUP) {
    var sum = sums[i];
    for (var l = 1u; l < LANES; l++) {
      sum += sums[l * TEAMS * ROWS * COLUMNS + i];
    }
    let row = group_id.x * TEAMS * ROWS + i / COLUMNS;
    let column = firstColumn + i % COLUMNS;
    if (row < params.rows && column < params.columns) {
      let global = params.firstRow + row;
      // gainOf counts on codes divided by 2^8.
      let gain = gainOf(global, 0u) * 0.00390625f * inputScales[column];
      let at = column * params.outStride + params.outOffset + global;
      var value = f32(sum) * gain;
      if ((params.flags & 2u) != 0u) {
        value += bias[global];
      }
      if ((params.flags & 1u) != 0u) {
        out[at] += value;
      } else {
        out[at] = value;
      }
    }
  }
}
