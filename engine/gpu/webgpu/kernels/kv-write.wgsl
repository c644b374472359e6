// Part of rope-append: one head's key or value from `row` into the cache, in the format of its side.
  // A row of codes and its scale (kv-format.ts), or plain numbers, by the side's type: 0 f32, 1 f16, 2 fp8, 3 int8, 4 int4.
  let kind = select(V_KIND, K_KIND, isKey);
  if (index == 0u) {
    broken = 0u;
  }
  workgroupBarrier();
  var high = 0.0f;
  var low = 0.0f;
  for (var i = index; i < HEAD_DIM; i += WORKGROUP) {
    high = max(high, row[i]);
    low = min(low, row[i]);
    if ((bitcast<u32>(row[i]) & 0x7f800000u) == 0x7f800000u) {
      broken = 1u;
    }
  }
  sums[index] = high;
  lows[index] = low;
  workgroupBarrier();
  for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
    if (index < half) {
      sums[index] = max(sums[index], sums[index + half]);
      lows[index] = min(lows[index], lows[index + half]);
    }
    workgroupBarrier();
  }
  high = sums[0];
  low = lows[0];
  let most = max(high, -low);
  var scale = select(low, high, high >= -low) / -8.0f;
  if (kind == 2u) {
//#if STATIC_SCALES
    scale = staticScales[select(KV_HEADS, 0u, isKey) + kvHead];
//#else
    scale = most / 448.0f;
//#end
  }
  if (kind == 3u) {
    scale = most / 127.0f;
  }
  // A scale too small to divide by is that of a row of zeros.
  let inside = select(0.0f, 1.0f, abs(scale) >= 0x1p-126f);
  let divisor = select(1.0f, scale, inside > 0.0f);
  let start = place * select(V_ROW, K_ROW, isKey);
  if (kind >= 2u && index == 0u) {
    var stored = bitcast<u32>(scale * inside);
    if (broken > 0u) {
      stored = 0x7fc00000u;
    }
    if (isKey) {
      keys[start] = stored;
    } else {
      vals[start] = stored;
    }
  }
  // Dimensions of a word.
  let packed = select(select(select(8u, 4u, kind < 4u), 2u, kind == 1u), 1u, kind == 0u);
  for (var word = index; word < PADDED_DIM / packed; word += WORKGROUP) {
    let first = word * packed;
    var code = 0u;
    if (kind == 0u) {
      code = bitcast<u32>(row[first]);
    } else if (kind == 1u) {
      code = half2(row[first], row[first + 1u]);
    } else {
      for (var i = 0u; i < packed; i++) {
        let value = row[first + i] / divisor * inside;
        if (kind == 2u) {
          code |= e4m3Code(value) << (8u * i);
        } else if (kind == 3u) {
          code |= (bitcast<u32>(i32(round(clamp(value, -127.0f, 127.0f)))) & 255u) << (8u * i);
        } else {
          code |= u32(clamp(round(value) + 8.0f, 0.0f, 15.0f)) << (4u * i);
        }
      }
    }
    let target_ = start + select(0u, 1u, kind >= 2u) + word;
    if (isKey) {
      keys[target_] = code;
    } else {
      vals[target_] = code;
    }
  }
