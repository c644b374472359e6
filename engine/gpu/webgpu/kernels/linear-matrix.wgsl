// out = x · weightᵀ on matrix units, for steps of many tokens: inputs and weights as halves, sums in f32. A workgroup makes a tile of TILE_COLUMNS
// columns and TILE_ROWS rows; each of its subgroups a part of it. Weights are read as they are stored and become halves in workgroup memory, a
// stage of STAGE_ELEMENTS at a time, fetched from memory while the stage before is multiplied. Rows of inputs and of weights are scaled by
// powers of two beforehand (halve-input.wgsl, row-range.wgsl), which the end undoes. The order of additions is the driver's: results are near
// those of the other linear kernels, not the same. No subgroup arithmetic here: an NVIDIA compiler crashed on both in one module.
//#include weight-stored
//#include linear-bindings
//#include weight-decode
//#include weight-unit
@group(0) @binding({SCALES_BINDING}) var<storage, read> inputScales: array<f32>;
//#if !COPY
@group(0) @binding({SCALES_BINDING+1}) var<storage, read> rowScales: array<f32>;
//#end

// Places of 16 bytes; an odd pitch spreads a fragment's rows over all banks.
const PITCH: u32 = STAGE_ELEMENTS / 8u + 1u;
const STRIP_PITCH: u32 = ROWS / 4u + 1u;
//#if DIRECT
const WEIGHT_STAGE: u32 = 0u;
const STAGE_PLACES: u32 = TILE_ROWS * PITCH;
//#else
const WEIGHT_STAGE: u32 = TILE_COLUMNS * PITCH;
const STAGE_PLACES: u32 = (TILE_COLUMNS + TILE_ROWS) * PITCH;
//#end
// The stages; at the end a strip of UNIT_M columns per subgroup.
var<workgroup> stage: array<vec4<u32>, max(BUFFERS * STAGE_PLACES, TEAMS * UNIT_M * STRIP_PITCH)>;

//#if EMULATED
//#include matrix-units-emulated
//#else
//#include matrix-units
//#end

// Units of weights in a stage of one row; each becomes UNIT_PLACES places of halves.
const STAGE_UNITS: u32 = STAGE_ELEMENTS / UNIT_ELEMENTS;
const STAGE_WEIGHTS: u32 = TILE_ROWS * STAGE_UNITS;
const STAGE_X: u32 = TILE_COLUMNS * STAGE_ELEMENTS / 8u;

fn halves(quad: vec4<f32>) -> vec2<u32> {
  return vec2<u32>(pack2x16float(quad.xy), pack2x16float(quad.zw));
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) group_id: vec3<u32>,
  @builtin(local_invocation_index) index: u32,
//#if !EMULATED
  @builtin(subgroup_id) team: u32,
  @builtin(subgroup_invocation_id) lane: u32,
//#end
) {
//#if EMULATED
  let team = index / SUBGROUP_LANES;
  lane = index % SUBGROUP_LANES;
//#end
  let firstColumn = group_id.x * TILE_COLUMNS;
  let firstRow = group_id.y * TILE_ROWS;
  let teamColumn = (team / GRID_ROWS) * COLUMNS;
  let teamRow = (team % GRID_ROWS) * ROWS;

//#repeat i WEIGHT_LOADS
  let place_{i} = min({i}u * WORKGROUP + index, STAGE_WEIGHTS - 1u);
  let tileRow_{i} = place_{i} / STAGE_UNITS;
  let inStage_{i} = place_{i} % STAGE_UNITS;
  let shardRow_{i} = rowOf(firstRow + tileRow_{i} / ROWS * ROWS, tileRow_{i} % ROWS);
  let row_{i} = params.firstRow + shardRow_{i};
  let target_{i} = WEIGHT_STAGE + tileRow_{i} * PITCH + inStage_{i} * UNIT_PLACES;
//#if !COPY
  let rowScale_{i} = rowScales[row_{i}];
//#end
  var weight_{i} = unitAt(shardRow_{i}, min(inStage_{i}, UNITS - 1u));
//#if PACKED
//#repeat s SPANS
  var gain_{i}_{s} = gainOf(row_{i}, groupOf(inStage_{i}, {s*SPAN_QUADS*4}u));
//#if ZERO
  var center_{i}_{s} = centerOf(row_{i}, groupOf(inStage_{i}, {s*SPAN_QUADS*4}u));
//#end
//#end
//#end
//#end
//#if !DIRECT
//#repeat i X_LOADS
  let xPlace_{i} = min({i}u * WORKGROUP + index, STAGE_X - 1u);
  let xSource_{i} = min(firstColumn + xPlace_{i} / {STAGE_ELEMENTS/8}u, params.columns - 1u) * X_PLACES + xPlace_{i} % {STAGE_ELEMENTS/8}u;
  let xTarget_{i} = xPlace_{i} / {STAGE_ELEMENTS/8}u * PITCH + xPlace_{i} % {STAGE_ELEMENTS/8}u;
  var x_{i} = x[xSource_{i}];
//#end
//#end

//#repeat m FRAGMENTS_M
//#repeat n FRAGMENTS_N
  var sums_{m}_{n}: Sums;
//#end
//#end

  for (var step = 0u; step < STEPS; step++) {
    let base = (step % BUFFERS) * STAGE_PLACES;
//#if SINGLE
    workgroupBarrier();
//#end
//#repeat i WEIGHT_LOADS
    if ({i}u * WORKGROUP + index < STAGE_WEIGHTS) {
//#if COPY
      stage[base + target_{i}] = weight_{i};
//#else
//#repeat p UNIT_PLACES
//#if PACKED
//#repeat h 2
//#if ZERO
      let quad_{p}_{h} = (rawQuad{2*p+h}(weight_{i}) - vec4<f32>(center_{i}_{(2*p+h)/SPAN_QUADS})) * (gain_{i}_{(2*p+h)/SPAN_QUADS} * rowScale_{i});
//#else
//#if FLOATS
      let quad_{p}_{h} = rawQuad{2*p+h}(weight_{i}) * (gain_{i}_{(2*p+h)/SPAN_QUADS} * rowScale_{i});
//#else
      let quad_{p}_{h} = (rawQuad{2*p+h}(weight_{i}) - vec4<f32>(1.5f)) * (gain_{i}_{(2*p+h)/SPAN_QUADS} * rowScale_{i});
//#end
//#end
//#end
//#else
//#repeat h 2
      let quad_{p}_{h} = rawQuad{2*p+h}(weight_{i}) * rowScale_{i};
//#end
//#end
      stage[base + target_{i} + {p}u] = vec4<u32>(halves(quad_{p}_0), halves(quad_{p}_1));
//#end
//#end
    }
//#end
//#if !DIRECT
//#repeat i X_LOADS
    if ({i}u * WORKGROUP + index < STAGE_X) {
      stage[base + xTarget_{i}] = x_{i};
    }
//#end
//#end
    workgroupBarrier();
    let next = min(step + 1u, STEPS - 1u);
//#repeat i WEIGHT_LOADS
    {
      let unit = next * STAGE_UNITS + inStage_{i};
      weight_{i} = unitAt(shardRow_{i}, min(unit, UNITS - 1u));
//#if PACKED
//#repeat s SPANS
      gain_{i}_{s} = gainOf(row_{i}, groupOf(unit, {s*SPAN_QUADS*4}u));
//#if ZERO
      center_{i}_{s} = centerOf(row_{i}, groupOf(unit, {s*SPAN_QUADS*4}u));
//#end
//#end
//#end
    }
//#end
//#if !DIRECT
//#repeat i X_LOADS
    x_{i} = x[xSource_{i} + next * {STAGE_ELEMENTS/8}u];
//#end
//#end
//#repeat k FRAGMENTS_K
    {
//#repeat m FRAGMENTS_M
//#if DIRECT
      let left_{m} = loadLeftDirect((firstColumn + teamColumn + {m}u * UNIT_M) * X_PLACES + step * {STAGE_ELEMENTS/8}u + {k}u * UNIT_K / 8u);
//#else
      let left_{m} = loadLeft(base + (teamColumn + {m}u * UNIT_M) * PITCH + {k}u * UNIT_K / 8u);
//#end
//#end
//#repeat n FRAGMENTS_N
      {
        let right = loadRight(base + WEIGHT_STAGE + (teamRow + {n}u * UNIT_N) * PITCH + {k}u * UNIT_K / 8u);
//#repeat m FRAGMENTS_M
        sums_{m}_{n} = multiplyAdd(left_{m}, right, sums_{m}_{n});
//#end
      }
//#end
    }
//#end
  }

  // Sums have no elements that a lane could name, so they pass through workgroup memory.
  let strip = team * UNIT_M * STRIP_PITCH;
//#repeat m FRAGMENTS_M
  workgroupBarrier();
//#repeat n FRAGMENTS_N
  storeSums(strip + {n}u * UNIT_N / 4u, sums_{m}_{n});
//#end
  workgroupBarrier();
  for (var i = lane; i < UNIT_M * RESULTS; i += SUBGROUP_LANES) {
    let stripRow = i % RESULTS;
    let column = firstColumn + teamColumn + {m}u * UNIT_M + i / RESULTS;
    if (column < params.columns) {
      let inputScale = inputScales[column];
      let source = strip + i / RESULTS * STRIP_PITCH;
//#if GATED
      let row = (firstRow + teamRow) / 2u + stripRow;
      if (row < params.rows / 2u) {
        storeGated(row, column, sumAt(source, stripRow, row, inputScale), sumAt(source, stripRow + HALF_ROWS, row + params.rows / 2u, inputScale));
      }
//#else
      let row = firstRow + teamRow + stripRow;
      if (row < params.rows) {
        store(row, column, sumAt(source, stripRow, row, inputScale));
      }
//#end
    }
  }
//#end
}

fn sumAt(source: u32, stripRow: u32, row: u32, inputScale: f32) -> f32 {
  let sum = bitcast<f32>(stage[source + stripRow / 4u][stripRow % 4u]) * inputScale;
//#if COPY
  return sum;
//#else
  // Undoes a power of two: the exponent of its inverse.
  return sum * bitcast<f32>(0x7f000000u - bitcast<u32>(rowScales[params.firstRow + row]));
//#end
}
