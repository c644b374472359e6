// out = x · weightᵀ for GPUs. LANES neighbouring invocations share a row: unit u of a row belongs to lane u mod LANES, so their 16-byte loads
// coalesce. The workgroup stages the inputs in shared memory, padded so that the lanes' strided quads fall into different banks. A lane's
// units come in rising order and the lanes' sums are added in lane order, whatever the number of columns: the result has the same bits for any
// batch (specs/runtime.md §9.2).
//#include weight-stored
//#include linear-bindings
//#include weight-decode

// A stage is STAGE_UNITS = LANES·DEPTH units; each unit's QUADS inputs take PITCH places.
const STAGED: u32 = STAGE_UNITS * QUADS * COLUMNS;
//#if AHEAD
// Afterwards the same memory takes the lanes' sums of up to four columns at a time: [lane][team][row] of four columns.
var<workgroup> stage: array<vec4<f32>, max(STAGE_UNITS * PITCH * COLUMNS, WORKGROUP * ROWS)>;
//#else
var<workgroup> stage: array<vec4<f32>, STAGE_UNITS * PITCH * COLUMNS>;
// [lane][team][row]
var<workgroup> laneSums: array<f32, WORKGROUP * ROWS>;
//#end

//#include weight-unit

fn loadX(source: u32, quad: u32) -> vec4<f32> {
  return stage[source + quad];
}

// Input `i` of the stage that begins at unit `first`.
fn fetch(first: u32, firstColumn: u32, i: u32) -> vec4<f32> {
  let base = min(firstColumn + i / (STAGE_UNITS * QUADS), params.columns - 1u) * X_QUADS;
  let quad = first * QUADS + i % (STAGE_UNITS * QUADS);
  if (quad < X_QUADS) {
    return inputQuad(base, quad);
  }
  return vec4<f32>(0.0f);
}

// The lanes' sums of one row of the tile, added in their order.
//#if AHEAD
fn laneSum(i: u32) -> vec4<f32> {
  var sum = stage[i];
  for (var l = 1u; l < LANES; l++) {
    sum += stage[l * TEAMS * ROWS + i];
  }
  return sum;
}
//#else
fn laneSum(i: u32) -> array<f32, 1> {
  var sum = laneSums[i];
  for (var l = 1u; l < LANES; l++) {
    sum += laneSums[l * TEAMS * ROWS + i];
  }
  return array<f32, 1>(sum);
}
//#end

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let lane = index % LANES;
  let team = index / LANES;
  let firstRow = (group_id.x * TEAMS + team) * ROWS;
  let firstColumn = group_id.y * COLUMNS;
//#repeat r ROWS
  let shardRow_{r} = rowOf(firstRow, {r}u);
  let row_{r} = params.firstRow + shardRow_{r};
//#end
//#repeat c COLUMNS
  let source_{c} = STAGE_UNITS * PITCH * {c}u;
//#repeat r ROWS
  var acc_{r}_{c} = 0.0f;
//#end
//#end
  // Weights are asked for a stage ahead, so that they are under way while the stage before is computed; for tiles of several columns (AHEAD) gains and
  // inputs too. A single column is better off with the registers.
//#if AHEAD
//#repeat i STAGE_LOADS
  var fetched_{i} = fetch(0u, firstColumn, {i}u * WORKGROUP + index);
//#end
//#end
//#repeat d DEPTH
//#repeat r ROWS
  var weight_{d}_{r} = unitAt(shardRow_{r}, min({d}u * LANES + lane, UNITS - 1u));
//#if AHEAD_GAINS
//#repeat s SPANS
  var gain_{d}_{s}_{r} = gainOf(row_{r}, groupOf({d}u * LANES + lane, {s*SPAN_QUADS*4}u));
//#end
//#end
//#end
//#end
  for (var first = 0u; first < UNITS; first += STAGE_UNITS) {
    workgroupBarrier();
//#if !AHEAD
    for (var i = index; i < STAGED; i += WORKGROUP) {
      stage[(i / QUADS) * PITCH + i % QUADS] = fetch(first, firstColumn, i);
    }
//#else
//#repeat i STAGE_LOADS
    {
      let place = {i}u * WORKGROUP + index;
      if (place < STAGED) {
        stage[(place / QUADS) * PITCH + place % QUADS] = fetched_{i};
      }
    }
//#end
//#end
    workgroupBarrier();
//#if AHEAD
//#repeat i STAGE_LOADS
    fetched_{i} = fetch(first + STAGE_UNITS, firstColumn, {i}u * WORKGROUP + index);
//#end
//#end
//#repeat d DEPTH
//#repeat r ROWS
    let next_{d}_{r} = unitAt(shardRow_{r}, min(first + STAGE_UNITS + {d}u * LANES + lane, UNITS - 1u));
//#if AHEAD_GAINS
//#repeat s SPANS
    let nextGain_{d}_{s}_{r} = gainOf(row_{r}, groupOf(first + STAGE_UNITS + {d}u * LANES + lane, {s*SPAN_QUADS*4}u));
//#end
//#end
//#end
//#end
//#repeat d DEPTH
    if (first + {d}u * LANES + lane < UNITS) {
      let unit = first + {d}u * LANES + lane;
      let firstQuad = ({d}u * LANES + lane) * PITCH;
//#repeat r ROWS
      let weight_{r} = weight_{d}_{r};
//#if SPANS
//#repeat s SPANS
//#if AHEAD_GAINS
      let early_{s}_{r} = gain_{d}_{s}_{r};
//#else
      let early_{s}_{r} = gainOf(row_{r}, groupOf(unit, {s*SPAN_QUADS*4}u));
//#end
//#end
//#end
//#end
//#include linear-block
    }
//#end
//#repeat d DEPTH
//#repeat r ROWS
    weight_{d}_{r} = next_{d}_{r};
//#if AHEAD_GAINS
//#repeat s SPANS
    gain_{d}_{s}_{r} = nextGain_{d}_{s}_{r};
//#end
//#end
//#end
//#end
  }
//#repeat p SUM_PASSES
//#if AHEAD
  workgroupBarrier();
//#end
//#repeat r ROWS
//#if !AHEAD
  laneSums[(lane * TEAMS + team) * ROWS + {r}u] = acc_{r}_0;
//#else
  {
    var sums = vec4<f32>(0.0f);
//#repeat c SUM_COLUMNS
    sums[{c}] = acc_{r}_{p*SUM_COLUMNS+c};
//#end
    stage[(lane * TEAMS + team) * ROWS + {r}u] = sums;
  }
//#end
//#end
  workgroupBarrier();
//#if GATED
  for (var i = index; i < TEAMS * HALF_ROWS; i += WORKGROUP) {
    let gate = laneSum((i / HALF_ROWS) * ROWS + i % HALF_ROWS);
    let up = laneSum((i / HALF_ROWS) * ROWS + HALF_ROWS + i % HALF_ROWS);
    let row = group_id.x * TEAMS * HALF_ROWS + i;
//#repeat c SUM_COLUMNS
    if (row < params.rows / 2u && firstColumn + {p*SUM_COLUMNS+c}u < params.columns) {
      storeGated(row, firstColumn + {p*SUM_COLUMNS+c}u, gate[{c}], up[{c}]);
    }
//#end
  }
//#else
  for (var i = index; i < TEAMS * ROWS; i += WORKGROUP) {
    let sum = laneSum(i);
    let row = group_id.x * TEAMS * ROWS + i;
//#repeat c SUM_COLUMNS
    if (row < params.rows && firstColumn + {p*SUM_COLUMNS+c}u < params.columns) {
      store(row, firstColumn + {p*SUM_COLUMNS+c}u, sum[{c}]);
    }
//#end
  }
//#end
//#end
}
