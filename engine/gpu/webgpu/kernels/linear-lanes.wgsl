// out = x · weightᵀ for GPUs. LANES neighbouring invocations share a row: unit u of a row belongs to lane u mod LANES, so their 16-byte loads
// coalesce. The workgroup stages the inputs in shared memory, padded so that the lanes' strided quads fall into different banks. A lane's
// units come in rising order and the lanes' sums are added in lane order, whatever the number of columns: the result has the same bits for any
// batch (specs/runtime.md §9.2).
//#if INT_ANY
alias Stored = array<u32, BITS>;
//#else
//#if SPARSE
alias Stored = vec2<u32>;
//#else
alias Stored = vec4<u32>;
//#end
//#end
//#include linear-bindings
//#include weight-decode

// A stage is STAGE_UNITS = LANES·DEPTH units; each unit's QUADS inputs take PITCH places.
var<workgroup> stage: array<vec4<f32>, STAGE_UNITS * PITCH * COLUMNS>;
var<workgroup> laneSums: array<f32, WORKGROUP * ROWS * COLUMNS>;

//#if SPARSE
fn unitAt(row: u32, unit: u32) -> SparseUnit {
  return SparseUnit(values[row * UNITS + unit], positionsOf(row, unit));
}
//#else
fn unitAt(row: u32, unit: u32) -> Stored {
  return values[row * UNITS + unit];
}
//#end

fn loadX(source: u32, quad: u32) -> vec4<f32> {
  return stage[source + quad];
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let lane = index % LANES;
  let team = index / LANES;
  let firstRow = (group_id.x * TEAMS + team) * ROWS;
  let firstColumn = group_id.y * COLUMNS;
//#repeat r ROWS
  let shardRow_{r} = min(firstRow + {r}u, params.rows - 1u);
  let row_{r} = params.firstRow + shardRow_{r};
//#end
//#repeat c COLUMNS
  let source_{c} = STAGE_UNITS * PITCH * {c}u;
//#repeat r ROWS
  var acc_{r}_{c} = 0.0f;
//#end
//#end
  // Weights are asked for a stage ahead, so that they are under way while the stage before is computed.
//#repeat d DEPTH
//#repeat r ROWS
  var weight_{d}_{r} = unitAt(shardRow_{r}, min({d}u * LANES + lane, UNITS - 1u));
//#end
//#end
  for (var first = 0u; first < UNITS; first += STAGE_UNITS) {
    workgroupBarrier();
    for (var i = index; i < STAGE_UNITS * QUADS * COLUMNS; i += WORKGROUP) {
      let column = i / (STAGE_UNITS * QUADS);
      let place = i % (STAGE_UNITS * QUADS);
      let base = min(firstColumn + column, params.columns - 1u) * X_QUADS;
      let quad = first * QUADS + place;
      var value = vec4<f32>(0.0f);
      if (quad < X_QUADS) {
        value = inputQuad(base, quad);
      }
      stage[(column * STAGE_UNITS + place / QUADS) * PITCH + place % QUADS] = value;
    }
    workgroupBarrier();
//#repeat d DEPTH
//#repeat r ROWS
    let next_{d}_{r} = unitAt(shardRow_{r}, min(first + STAGE_UNITS + {d}u * LANES + lane, UNITS - 1u));
//#end
//#end
//#repeat d DEPTH
    if (first + {d}u * LANES + lane < UNITS) {
      let unit = first + {d}u * LANES + lane;
      let firstQuad = ({d}u * LANES + lane) * PITCH;
//#repeat r ROWS
      let weight_{r} = weight_{d}_{r};
//#end
//#include linear-block
    }
//#end
//#repeat d DEPTH
//#repeat r ROWS
    weight_{d}_{r} = next_{d}_{r};
//#end
//#end
  }
  // laneSums[lane][team][row][column]: the threads that add up neighbouring results read neighbouring words.
//#repeat r ROWS
//#repeat c COLUMNS
  laneSums[((lane * TEAMS + team) * ROWS + {r}u) * COLUMNS + {c}u] = acc_{r}_{c};
//#end
//#end
  workgroupBarrier();
  for (var i = index; i < TEAMS * ROWS * COLUMNS; i += WORKGROUP) {
    var sum = laneSums[i];
    for (var l = 1u; l < LANES; l++) {
      sum += laneSums[l * TEAMS * ROWS * COLUMNS + i];
    }
    let row = group_id.x * TEAMS * ROWS + i / COLUMNS;
    let column = firstColumn + i % COLUMNS;
    if (row < params.rows && column < params.columns) {
      store(row, column, sum);
    }
  }
}
