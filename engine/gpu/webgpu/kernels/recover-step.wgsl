// One conjugate-gradient step of every row's masked least squares, with a diagonal preconditioner; one row per workgroup. START instead makes residual
// and direction from the product of the rows' differences.
struct Immediates {
  columns: u32,
  stride: u32,
  ridge: f32,
  tolerance: f32,
}
var<immediate> solve: Immediates;
@group(0) @binding(0) var<storage, read> inverseDiagonal: array<f32>;
/// One bit per weight, 1 = pruned; rows of stride / 32 words.
@group(0) @binding(1) var<storage, read> mask: array<u32>;
/// direction · G; for START differences · G.
@group(0) @binding(2) var<storage, read> product: array<f32>;
@group(0) @binding(3) var<storage, read_write> direction: array<f32>;
@group(0) @binding(4) var<storage, read_write> residual: array<f32>;
@group(0) @binding(5) var<storage, read_write> solution: array<f32>;
/// Per row: the preconditioned residual's square, that of the start, and whether the row goes on.
@group(0) @binding(6) var<storage, read_write> facts: array<f32>;
var<workgroup> parts: array<f32, 256>;

fn total(value: f32, index: u32) -> f32 {
  parts[index] = value;
  workgroupBarrier();
  for (var step = 128u; step > 0u; step /= 2u) {
    if (index < step) {
      parts[index] += parts[index + step];
    }
    workgroupBarrier();
  }
  let sum = parts[0];
  workgroupBarrier();
  return sum;
}

fn pruned(row: u32, c: u32) -> bool {
  return ((mask[row * (solve.stride / 32u) + c / 32u] >> (c % 32u)) & 1u) == 1u;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let row = group.x;
  let at = row * solve.stride;
//#if START
  var own = 0.0f;
  for (var c = index; c < solve.columns; c += 256u) {
    let r = select(product[at + c], 0.0f, pruned(row, c));
    let d = r * inverseDiagonal[c];
    residual[at + c] = r;
    direction[at + c] = d;
    own = fma(r, d, own);
  }
  let rho = total(own, index);
  if (index == 0u) {
    facts[row * 4u] = rho;
    facts[row * 4u + 1u] = rho;
    facts[row * 4u + 2u] = select(0.0f, 1.0f, rho > 0.0f);
  }
//#else
  let rho = facts[row * 4u];
  let first = facts[row * 4u + 1u];
  let goesOn = facts[row * 4u + 2u] > 0.0f;
  var own = 0.0f;
  for (var c = index; c < solve.columns; c += 256u) {
    // The direction is 0 where the mask is 1.
    let d = direction[at + c];
    own = fma(d, fma(solve.ridge, d, product[at + c]), own);
  }
  let curvature = total(own, index);
  let moves = goesOn && curvature > 0.0f;
  let length = select(0.0f, rho / curvature, moves);
  var left = 0.0f;
  for (var c = index; c < solve.columns; c += 256u) {
    let d = direction[at + c];
    let q = select(fma(solve.ridge, d, product[at + c]), 0.0f, pruned(row, c));
    solution[at + c] += length * d;
    let r = residual[at + c] - length * q;
    residual[at + c] = r;
    left = fma(r * r, inverseDiagonal[c], left);
  }
  let next = total(left, index);
  let share = select(0.0f, next / rho, moves);
  for (var c = index; c < solve.columns; c += 256u) {
    direction[at + c] = fma(share, direction[at + c], residual[at + c] * inverseDiagonal[c]);
  }
  if (index == 0u) {
    facts[row * 4u] = next;
    facts[row * 4u + 2u] = select(0.0f, 1.0f, moves && next > solve.tolerance * first);
  }
//#end
}
