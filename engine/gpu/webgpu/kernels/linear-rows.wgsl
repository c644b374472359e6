// out = x · weightᵀ for adapters whose "threads" are SIMD lanes of a CPU: each invocation owns ROWS whole rows, so there is nothing to share
// and nothing to reduce. Each weight is read once per COLUMNS inputs.
//#include linear-bindings
//#include weight-decode

fn loadX(source: u32, quad: u32) -> vec4<f32> {
  return inputQuad(source, quad);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let firstRow = (group_id.x * WORKGROUP + lane) * ROWS;
  let firstColumn = group_id.y * COLUMNS;
//#repeat r ROWS
  let shardRow_{r} = min(firstRow + {r}u, params.rows - 1u);
  let row_{r} = params.firstRow + shardRow_{r};
//#end
//#repeat c COLUMNS
  let source_{c} = min(firstColumn + {c}u, params.columns - 1u) * X_QUADS;
//#repeat r ROWS
  var acc_{r}_{c} = 0.0f;
//#end
//#end
  for (var unit = 0u; unit < UNITS; unit++) {
//#repeat r ROWS
    let weight_{r} = values[shardRow_{r} * UNITS + unit];
//#end
    let firstQuad = unit * QUADS;
//#include linear-block
  }
//#repeat r ROWS
  if (firstRow + {r}u < params.rows) {
//#repeat c COLUMNS
    if (firstColumn + {c}u < params.columns) {
      store(firstRow + {r}u, firstColumn + {c}u, acc_{r}_{c});
    }
//#end
  }
//#end
}
