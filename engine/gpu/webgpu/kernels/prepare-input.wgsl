// The input of a linear as it is multiplied: columns gathered in the weight's order, and rounded to q·s as InputQuantization of program.ts says.
// One workgroup per row. A largest magnitude is the same in any order of comparisons, so a row's bits depend on nothing but the row.
struct Params {
  staticScale: f32,
}
var<immediate> params: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;
//#if CODES
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
@group(0) @binding(2) var<storage, read_write> scales: array<f32>;
//#else
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
//#end
//#if GATHER
@group(0) @binding(2) var<storage, read> order: array<u32>;
//#end

//#if TOKEN
var<workgroup> maxima: array<f32, WORKGROUP>;
//#end

fn input(base: u32, column: u32) -> f32 {
//#if GATHER
  return x[base + order[column]];
//#else
  return x[base + column];
//#end
}

//#if ROUND
// a / b to the nearest f32, b > 0. WGSL allows a division 2.5 units in the last place, and SwiftShader takes some; here they decide ties. The
// remainder in units of the quotient's last place times b's is a small integer, so its low 32 bits are all of it; a quotient of two floats is
// never halfway between two others.
fn quotient(a: f32, b: f32) -> f32 {
  let q = a / b;
  let mantissa = vec3<u32>(0x007fffffu);
  let bits = vec3<u32>(bitcast<u32>(a), bitcast<u32>(b), bitcast<u32>(q)) & vec3<u32>(0x7fffffffu);
  let exponents = bits >> vec3<u32>(23u);
  // Subnormals are left as they are: so small a quotient rounds to 0 in every format.
  if (any(exponents == vec3<u32>(0u)) || any(exponents == vec3<u32>(255u))) {
    return q;
  }
  let m = (bits & mantissa) | vec3<u32>(0x00800000u);
  var remainder = bitcast<i32>((m.x << (exponents.x + 150u - exponents.y - exponents.z)) - m.y * m.z);
  let divisor = i32(m.y);
  var steps = 0i;
  for (var i = 0; i < 3; i++) {
    if (2i * remainder > divisor) {
      remainder -= divisor;
      steps += 1i;
    } else if (2i * remainder < -divisor) {
      remainder += divisor;
      steps -= 1i;
    }
  }
  return bitcast<f32>(bitcast<u32>(q) + bitcast<u32>(steps));
}

//#if INT8
fn nearest(value: f32) -> f32 {
  return clamp(round(value), -128.0f, 127.0f);
}
//#end
//#if E4M3
// Three bits of mantissa, ties to even; below 2^-6 steps of 2^-9.
fn eightBits(value: f32) -> f32 {
  let limited = clamp(value, -448.0f, 448.0f);
  let bits = bitcast<u32>(limited);
  let rounded = bitcast<f32>((bits + 0x7ffffu + ((bits >> 20u) & 1u)) & 0xfff00000u);
  return select(rounded, round(limited * 512.0f) * 0.001953125f, abs(limited) < 0.015625f);
}
//#end
//#if E2M1
//#if SCALE_E4M3
fn eightBits(value: f32) -> f32 {
  let limited = clamp(value, -448.0f, 448.0f);
  let bits = bitcast<u32>(limited);
  let rounded = bitcast<f32>((bits + 0x7ffffu + ((bits >> 20u) & 1u)) & 0xfff00000u);
  return select(rounded, round(limited * 512.0f) * 0.001953125f, abs(limited) < 0.015625f);
}
//#end
// Steps of ½ up to 2, 1 up to 4, 2 up to 6.
fn nearest(value: f32) -> f32 {
  let limited = clamp(value, -6.0f, 6.0f);
  let magnitude = abs(limited);
  let fine = round(limited * 2.0f) * 0.5f;
  let coarse = select(round(limited * 0.5f) * 2.0f, round(limited), magnitude < 4.0f);
  return select(coarse, fine, magnitude < 2.0f);
}
//#else
//#if !INT8
fn nearest(value: f32) -> f32 {
  return eightBits(value);
}
//#end
//#end

// The scale of values whose largest magnitude is given; 0 only where everything rounds to 0.
fn scaleOf(largest: f32) -> f32 {
//#if TENSOR
  return params.staticScale;
//#else
//#if SCALE_E8M0
  let exponent = (bitcast<u32>(largest) + 0x200000u) >> 23u;
  return bitcast<f32>(min(254u, max(exponent, EXPONENT_OFFSET) - EXPONENT_OFFSET) << 23u);
//#else
//#if SCALE_E4M3
  let wanted = quotient(params.staticScale * largest, 6.0f);
  let stored = eightBits(min(wanted, 448.0f));
  return quotient(select(stored, 0.125f, stored == 0.0f), params.staticScale);
//#else
  let exact = quotient(largest, LIMIT);
  return select(exact, 1.1920928955078125e-7f, exact == 0.0f);
//#end
//#end
//#end
}

fn rounded(value: f32, scale: f32) -> f32 {
//#if SCALE_E8M0
  if (scale == 0.0f) {
    return 0.0f;
  }
//#end
  return nearest(quotient(value, scale));
}
//#end

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let row = group_id.x;
  let base = row * X_STRIDE;
//#if TOKEN
  var largest = 0.0f;
  for (var i = index; i < WIDTH; i += WORKGROUP) {
    largest = max(largest, abs(input(base, i)));
  }
  maxima[index] = largest;
  workgroupBarrier();
  for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
    if (index < half) {
      maxima[index] = max(maxima[index], maxima[index + half]);
    }
    workgroupBarrier();
  }
  let scale = scaleOf(maxima[0]);
//#end
//#if TENSOR
  let scale = params.staticScale;
//#end
//#if GROUP
  for (var group = index; group < GROUPS; group += WORKGROUP) {
    let first = group * GROUP_SIZE;
    let end = min(first + GROUP_SIZE, WIDTH);
    var largest = 0.0f;
    for (var i = first; i < end; i++) {
      largest = max(largest, abs(input(base, i)));
    }
    let scale = scaleOf(largest);
    for (var i = first; i < end; i++) {
      out[row * OUT_STRIDE + i] = rounded(input(base, i), scale) * scale;
    }
  }
//#else
//#if CODES
  if (index == 0u) {
    scales[row] = scale;
  }
  for (var word = index; word < OUT_STRIDE; word += WORKGROUP) {
    var codes = 0u;
    for (var k = 0u; k < 4u; k++) {
      let i = 4u * word + k;
      if (i < WIDTH) {
        codes |= (bitcast<u32>(i32(rounded(input(base, i), scale))) & 0xffu) << (8u * k);
      }
    }
    out[row * OUT_STRIDE + word] = codes;
  }
//#else
  for (var i = index; i < WIDTH; i += WORKGROUP) {
//#if ROUND
    out[row * OUT_STRIDE + i] = rounded(input(base, i), scale) * scale;
//#else
    out[row * OUT_STRIDE + i] = input(base, i);
//#end
  }
//#end
//#end
}
